// ecad.h as C++11 sees it.
#include "ecad.h"

int main() {
  ecad_error err = ECAD_ERROR_INIT;
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  return err.op == -1 && config.backend == ECAD_BACKEND_CPU && args.times_len == 0 && (ecad_abi_version() >> 16) == ECAD_ABI_MAJOR ? 0 : 1;
}
