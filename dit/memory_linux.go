package dit

import "syscall"

const mapNoReserve = syscall.MAP_NORESERVE
