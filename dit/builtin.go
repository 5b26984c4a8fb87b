package dit

import "io/fs"

// builtins are the models that are part of the binary.
var builtins = map[string]func() (fs.FS, error){}
