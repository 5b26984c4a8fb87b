/* Struct sizes, as programs of other versions have them: compiled against today's header, this runs with today's library and with one whose
 * structs have grown (grown/). Usage: versions today|grown PROGRAM */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ecad.h"

enum { CANARY = 0xA5, ROOM = 4096 + 64, TAIL = 64 };

static int failures = 0;
static int grown = 0;

static void check(int condition, const char *what, unsigned long size) {
  if (condition) return;
  ++failures;
  printf("failed: %s, struct_size %lu\n", what, size);
}

static ecad_device *device;
static ecad_program *program;
static ecad_state *state;

static ecad_status query_device(void *s, ecad_error *err) { return ecad_device_query(device, (ecad_device_info *)s, err); }
static ecad_status query_program(void *s, ecad_error *err) { return ecad_program_query(program, (ecad_program_info *)s, err); }
static ecad_status query_io(void *s, ecad_error *err) { return ecad_program_io(program, 0, (ecad_io_info *)s, err); }
static ecad_status query_op(void *s, ecad_error *err) { return ecad_program_op(program, 0, (ecad_op_info *)s, err); }
static ecad_status query_section(void *s, ecad_error *err) { return ecad_program_section(program, 0, (ecad_section_info *)s, err); }
static ecad_status query_schedule(void *s, ecad_error *err) { return ecad_program_schedule_query(program, 0, (ecad_schedule_info *)s, err); }

/* All bytes from .. to are those of the canary. */
static int untouched(const unsigned char *bytes, size_t from, size_t to) {
  for (; from < to; ++from) {
    if (bytes[from] != CANARY) return 0;
  }
  return 1;
}

static unsigned char *fresh(uint32_t struct_size) {
  static union { uint64_t align; unsigned char bytes[ROOM]; } room;
  memset(room.bytes, CANARY, ROOM);
  memcpy(room.bytes, &struct_size, sizeof struct_size);
  return room.bytes;
}

/* An info struct of any size is filled as far as the caller knows it, and not a byte further. */
static void sweep_info(const char *name, size_t today, ecad_status (*query)(void *, ecad_error *)) {
  ecad_error err = ECAD_ERROR_INIT;
  unsigned char *full = malloc(today), *got = fresh((uint32_t)today);
  const uint32_t absurd[] = {0, 4, 7, 4097, 0x7fffffff, 0xffffffff};
  size_t size, i;
  if (full == NULL) exit(2);
  check(query(got, &err) == ECAD_OK && untouched(got, today, ROOM), name, today);
  memcpy(full, got, today);
  for (size = 8; size < today; ++size) {
    got = fresh((uint32_t)size);
    check(query(got, &err) == ECAD_OK && memcmp(got + 4, full + 4, size - 4) == 0 && untouched(got, size, ROOM), name, size);
  }
  got = fresh((uint32_t)today + TAIL); /* of a newer program */
  check(query(got, &err) == ECAD_OK && memcmp(got + 4, full + 4, today - 4) == 0 && untouched(got, today + TAIL, ROOM), name, today + TAIL);
  check(untouched(got, today, today + TAIL) != grown, "the library is not the one this was told", today + TAIL);
  for (i = 0; i < sizeof absurd / sizeof *absurd; ++i) {
    got = fresh(absurd[i]);
    check(query(got, &err) == ECAD_INVALID_ARGUMENT && untouched(got, 4, ROOM), name, absurd[i]);
  }
  free(full);
}

/* Of a config struct nothing is read past the caller's size; what a newer program sets and this library does not know is refused. */
static void sweep_config(void) {
  ecad_error err = ECAD_ERROR_INIT;
  const ecad_device_config config = {sizeof config, ECAD_BACKEND_REFERENCE, 0, 1, 0, 0, 0};
  const uint32_t absurd[] = {0, 4, 7, 9, 10, 4100, 0xffffffff};
  ecad_device *d = NULL;
  ecad_status status;
  unsigned char *bytes;
  uint32_t size, i;
  for (size = 8; size <= sizeof config; size += 4) {
    bytes = fresh(size);
    memcpy(bytes + 4, (const unsigned char *)&config + 4, size - 4);
    check(ecad_device_open((const ecad_device_config *)bytes, &d, &err) == ECAD_OK, "device config", size);
    ecad_device_release(d);
  }
  for (i = 0; i < sizeof absurd / sizeof *absurd; ++i) {
    bytes = fresh(absurd[i]);
    memcpy(bytes + 4, (const unsigned char *)&config + 4, sizeof config - 4);
    check(ecad_device_open((const ecad_device_config *)bytes, &d, &err) == ECAD_INVALID_ARGUMENT && d == NULL, "device config", absurd[i]);
  }
  bytes = fresh((uint32_t)sizeof config + TAIL);
  memcpy(bytes + 4, (const unsigned char *)&config + 4, sizeof config - 4);
  memset(bytes + sizeof config, 1, TAIL);
  status = ecad_device_open((const ecad_device_config *)bytes, &d, &err);
  check(status == (grown ? ECAD_OK : ECAD_UNSUPPORTED), "device config with a new field set", sizeof config + TAIL);
  ecad_device_release(d);
}

/* Run arguments that end before a pointer: what lies behind is none. */
static void sweep_run_args(void) {
  ecad_error err = ECAD_ERROR_INIT;
  const ecad_run_args none = ECAD_RUN_ARGS_INIT;
  unsigned char *bytes;
  uint32_t size;
  for (size = 8; size <= sizeof none; size += sizeof(void *)) {
    bytes = fresh(size);
    memcpy(bytes + 4, (const unsigned char *)&none + 4, size - 4);
    check(ecad_run_schedule(state, program, 0, (ecad_run_args *)bytes, &err) == ECAD_OK, err.message, size);
    check(untouched(bytes, size, ROOM), "run args", size);
  }
  bytes = fresh(12); /* half a pointer */
  memset(bytes + 4, 0, 8);
  check(ecad_run_schedule(state, program, 0, (ecad_run_args *)bytes, &err) == ECAD_INVALID_ARGUMENT, "run args", 12);
}

/* An error is told to callers who know less of it, and none is written past what they know. */
static void sweep_error(void) {
  size_t size;
  unsigned char *bytes;
  ecad_status code;
  for (size = 0; size <= sizeof(ecad_error); ++size) {
    bytes = fresh((uint32_t)size);
    check(ecad_state_reset(NULL, (ecad_error *)bytes) == ECAD_INVALID_ARGUMENT && untouched(bytes, size < 4 ? 4 : size, ROOM), "error", size);
    memcpy(&code, bytes + 4, sizeof code);
    check(size < 8 || code == ECAD_INVALID_ARGUMENT, "error", size);
  }
  bytes = fresh(0xffffffff);
  check(ecad_state_reset(NULL, (ecad_error *)bytes) == ECAD_INVALID_ARGUMENT && untouched(bytes, 4, ROOM), "error", 0xffffffff);
}

int main(int argc, char **argv) {
  ecad_error err = ECAD_ERROR_INIT;
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  const float x[6] = {-1, 0, 1, 2, 3, 4};
  if (argc != 3) return puts("usage: versions today|grown PROGRAM"), 2;
  grown = strcmp(argv[1], "grown") == 0;
  config.backend = ECAD_BACKEND_REFERENCE;
  check(ecad_device_open(&config, &device, &err) == ECAD_OK, err.message, 0);
  check(ecad_program_open(device, NULL, argv[2], &program, &err) == ECAD_OK, err.message, 0);
  check(ecad_state_create(program, &state, &err) == ECAD_OK, err.message, 0);
  check(ecad_state_write(state, "x", x, sizeof x, &err) == ECAD_OK, err.message, 0);
  sweep_info("device info", sizeof(ecad_device_info), query_device);
  sweep_info("program info", sizeof(ecad_program_info), query_program);
  sweep_info("io info", sizeof(ecad_io_info), query_io);
  sweep_info("op info", sizeof(ecad_op_info), query_op);
  sweep_info("section info", sizeof(ecad_section_info), query_section);
  sweep_info("schedule info", sizeof(ecad_schedule_info), query_schedule);
  sweep_config();
  sweep_run_args();
  sweep_error();
  ecad_state_release(state);
  ecad_program_release(program);
  ecad_device_release(device);
  if (failures == 0) puts("ok");
  return failures != 0;
}
