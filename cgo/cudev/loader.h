// The driver, found at run time. Every cu* function that gorgonia.org/cu calls is a trampoline (trampolines.S) which asks for its address once.
#ifndef ECAD_CUDEV_LOADER_H
#define ECAD_CUDEV_LOADER_H

// Empty when the driver is there and initialised, else one line that says what is wrong. Static.
__attribute__((visibility("hidden"))) const char *ecad_driver_problem(void);
// The address that trampoline `index` jumps to.
__attribute__((visibility("hidden"))) void *ecad_driver_resolve(unsigned index);

#endif
