package main

import "strings"

// appHelp is the page of ecadx --help.
const appHelp = `{{.Name}}: {{.Usage}}

USAGE
   {{.HelpName}} COMMAND [flags] [arguments]

{{.Description}}

COMMANDS{{range .VisibleCommands}}
   {{printf "%-12s" .Name}}{{.Usage}}{{end}}

FLAGS
   --help, -h      show this page, or after a command its page
   --version, -v   show commit, backends and models

EXAMPLES
   ecadx generate -p "a small red ring above a large blue square on a grey background" --schedule fora:2 --compare
   ecadx evolve --out study
`

// commandHelp is the page of one command. text says in a few lines what it does and what its files hold; each example is a real one.
func commandHelp(text string, examples ...string) string {
	var b strings.Builder
	b.WriteString(`{{.HelpName}}: {{.Usage}}

USAGE
   {{if .UsageText}}{{.UsageText}}{{else}}{{.HelpName}} [flags]{{end}}
`)
	if text != "" {
		b.WriteString("\n" + literal(text) + "\n")
	}
	b.WriteString(`{{if .VisibleCommands}}
COMMANDS{{range .VisibleCommands}}
   {{printf "%-12s" .Name}}{{.Usage}}{{end}}
{{end}}{{if .VisibleFlags}}
FLAGS{{range .VisibleFlags}}
   {{.}}{{end}}
{{end}}
EXAMPLES
`)
	for _, e := range examples {
		b.WriteString("   " + literal(e) + "\n")
	}
	return b.String()
}

// literal keeps text/template from reading braces.
func literal(text string) string { return strings.ReplaceAll(text, "{{", `{{"{{"}}`) }
