package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	"ecadx/dit"
	"ecadx/schedule"
)

// completeCommand is what the shells call with the words typed so far, the last one incomplete.
const completeCommand = "__complete"

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		UsageText: "ecadx completion bash|zsh|fish",
		CustomHelpTemplate: commandHelp("The script asks ecadx itself, so it stays right when ecadx is updated.",
			"source <(ecadx completion bash)", "ecadx completion fish > ~/.config/fish/completions/ecadx.fish"),
		Action: func(c *cli.Context) error {
			args, err := positional(c, 1, 1, "ecadx completion bash|zsh|fish")
			if err != nil {
				return err
			}
			script, ok := completionScripts[args[0]]
			if !ok {
				return usageError("ecadx completion: unknown shell %q: use bash, zsh or fish", args[0])
			}
			_, err = fmt.Fprint(environmentOf(c).stdout, script)
			return err
		},
	}
}

var completionScripts = map[string]string{
	"bash": `# bash completion for ecadx
_ecadx() {
    local cur=${COMP_WORDS[COMP_CWORD]} line
    COMPREPLY=()
    # bash splits words at colons; ask with the words as typed
    if declare -F _get_comp_words_by_ref >/dev/null; then
        local words cword
        _get_comp_words_by_ref -n =: cur words cword
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(ecadx __complete "${words[@]:1:cword}" 2>/dev/null)
        declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
    else
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(ecadx __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    fi
}
complete -o bashdefault -o default -F _ecadx ecadx
`,
	"zsh": `#compdef ecadx
_ecadx() {
    local -a replies
    replies=(${(f)"$(ecadx __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#replies} )); then compadd -Q -- "${replies[@]}"; else _files; fi
}
if [ "$funcstack[1]" = "_ecadx" ]; then _ecadx "$@"; else compdef _ecadx ecadx; fi
`,
	"fish": `# fish completion for ecadx
function __ecadx_complete
    set -l words (commandline -opc) (commandline -ct)
    ecadx __complete $words[2..-1] 2>/dev/null
end
complete -c ecadx -a '(__ecadx_complete)'
`,
}

// completions lists what the last word may become: commands, flags, or the values of the flag before it. None means a file.
func completions(app *cli.App, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	w, err := takeApart(app, words[:len(words)-1])
	if err != nil {
		return nil
	}
	var list []string
	prefix := ""
	switch name, _, inline := strings.Cut(last, "="); {
	case w.pending != nil:
		list = flagValues(w.pending.Names()[0])
	case strings.HasPrefix(last, "-") && inline:
		if f := findFlag(w.flagsHere(app), strings.TrimLeft(name, "-")); f != nil {
			list, prefix = flagValues(f.Names()[0]), name+"="
		}
	case strings.HasPrefix(last, "-"):
		list = flagNames(w.flagsHere(app))
	case len(w.subcommands(app)) > 0 && len(w.rest) == 0:
		list = commandNames(w.subcommands(app))
	case w.command() != nil:
		list = argumentValues(w)
	}
	var out []string
	for _, v := range list {
		if strings.HasPrefix(prefix+v, last) {
			out = append(out, prefix+v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// flagValues are the values of a flag that can be listed.
func flagValues(flag string) []string {
	switch flag {
	case flagModel:
		return dit.References()
	case flagDevice:
		return []string{"auto", "reference", "cpu", "cuda"}
	case flagDType:
		return []string{"auto", "float32", "bfloat16"}
	case flagGEMM:
		return []string{"auto", "ecad", "cublaslt"}
	case flagSchedule:
		return heuristicExamples()
	case flagFamily:
		return []string{schedule.PixArt.String(), schedule.Flux.String()}
	case flagFormat:
		return formatNames()
	case "quality":
		return bench.Qualities()
	}
	return nil
}

// argumentValues are the values of a command's arguments that can be listed.
func argumentValues(w *walk) []string {
	switch w.command().Name {
	case "completion":
		return []string{"bash", "zsh", "fish"}
	case "make":
		return heuristicExamples()
	}
	return nil
}

func heuristicExamples() []string {
	var list []string
	for _, h := range schedule.Heuristics() {
		list = append(list, h.Example)
	}
	return list
}
