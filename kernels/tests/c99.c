/* A C program that knows nothing but ecad.h: opens a device, runs the program of a file, cleans up. */
#include <stdio.h>
#include <string.h>

#include "ecad.h"

static int failures = 0;

static void check(int condition, const char *what, const ecad_error *err) {
  if (condition) return;
  ++failures;
  printf("failed: %s: %s\n", what, err->message);
}

static int32_t count_items(void *user, uint32_t done, uint32_t of) {
  (void)of;
  *(uint32_t *)user = done;
  return 0;
}

int main(int argc, char **argv) {
  ecad_error err = ECAD_ERROR_INIT;
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  ecad_device_info info;
  ecad_device *device = NULL;
  ecad_program *program = NULL;
  ecad_state *state = NULL;
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  float x[6] = {-1, 0, 1, 2, 3, 4};
  uint32_t done = 0;
  unsigned char bytes[1 << 16];
  size_t n;
  FILE *f;

  if (argc != 2 || (f = fopen(argv[1], "rb")) == NULL) return puts("usage: c99 PROGRAM"), 2;
  n = fread(bytes, 1, sizeof bytes, f);
  fclose(f);
  config.backend = ECAD_BACKEND_REFERENCE;
  check(ecad_device_open(&config, &device, &err) == ECAD_OK, "open", &err);
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  check(ecad_device_query(device, &info, &err) == ECAD_OK && strcmp(info.name, "reference") == 0, "query", &err);
  check(ecad_program_check(bytes, n, &err) == ECAD_OK, "check", &err);
  check(ecad_program_load(device, NULL, bytes, n, &program, &err) == ECAD_OK, "load", &err);
  check(ecad_state_create(program, &state, &err) == ECAD_OK, "state", &err);
  ecad_program_release(program);
  check(ecad_program_load(device, NULL, bytes, n, &program, &err) == ECAD_OK, "load again", &err);
  ecad_device_release(device);
  check(ecad_state_write(state, "x", x, sizeof x, &err) == ECAD_OK, "write", &err);
  args.on_item = count_items;
  args.user = &done;
  check(ecad_run_schedule(state, program, 0, &args, &err) == ECAD_OK && done == 2, "run", &err);
  check(ecad_state_read(state, "x", x, sizeof x, &err) == ECAD_OK && x[5] == 0, "read", &err);
  check(ecad_state_write(state, "x", x, 1, &err) == ECAD_SHAPE_MISMATCH && err.code == ECAD_SHAPE_MISMATCH, "wrong size", &err);
  ecad_state_release(state);
  ecad_program_release(program);
  if (failures == 0) puts("ok");
  return failures != 0;
}
