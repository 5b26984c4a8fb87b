//go:build cuda && linux && amd64

#include "loader.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

// Without a driver the package must still initialise (it ends the process when cuInit fails): cuInit succeeds, there are no devices, and every
// other function returns CUDA_ERROR_NO_DEVICE.
enum { kSuccess = 0, kNoDevice = 100, kNotFound = 500 };

static const char *const names[] = {
#define ECAD_SYMBOL(name) #name,
#include "symbols.inc"
#undef ECAD_SYMBOL
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void *driver;
static char problem[256];

static int no_device(void) { return kNoDevice; }
static int not_found(void) { return kNotFound; }
static int init_done(unsigned flags) { (void)flags; return kSuccess; }
static int zero(int *out) { *out = 0; return kSuccess; }

static void open_driver(void) {
  driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == NULL) {
    snprintf(problem, sizeof problem, "there is no NVIDIA driver (%s)", dlerror());
    return;
  }
  int (*init)(unsigned) = NULL;
  *(void **)&init = dlsym(driver, "cuInit");
  const int code = init == NULL ? kNotFound : init(0);
  if (code != kSuccess) {
    snprintf(problem, sizeof problem, "the NVIDIA driver does not start: cuInit gives CUDA error %d%s", code, code == kNoDevice ? " (no device)" : "");
    driver = NULL;  // stays loaded: CUDA's own threads may be running
  }
}

static int equal(const char *a, const char *b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a == *b;
}

const char *ecad_driver_problem(void) {
  pthread_once(&once, open_driver);
  return problem;
}

void *ecad_driver_resolve(unsigned index) {
  pthread_once(&once, open_driver);
  const char *name = names[index];
  int (*stand_in)(void) = no_device;
  if (driver != NULL) {
    void *address = dlsym(driver, name);
    if (address != NULL) return address;
    stand_in = not_found;
  } else if (equal(name, "cuInit")) {
    return *(void **)&(int (*)(unsigned)){init_done};
  } else if (equal(name, "cuDriverGetVersion") || equal(name, "cuDeviceGetCount")) {
    return *(void **)&(int (*)(int *)){zero};
  }
  return *(void **)&stand_in;
}
