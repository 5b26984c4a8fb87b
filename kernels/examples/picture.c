/* picture.c - makes a picture from what `ecadx compile -p PROMPT --out DIR` wrote: loads the compiled programs, runs the denoising loop with
 * progress, decodes, and says where the time went. Ctrl-C or a time limit ends it between two ops.
 *
 *   cc -O2 -pthread -o picture picture.c $(pkg-config --cflags --libs ecad)
 *   ./picture [-o picture.png] [-s schedule] [-l seconds] [-t threads] [-z latents.f32] DIR */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <ecad.h>

#include "png.h"

static ecad_cancel *cancel;
static ecad_error err = ECAD_ERROR_INIT;

static void require(ecad_status status) {
  if (status == ECAD_OK) return;
  fprintf(stderr, "picture: %s: %s\n", ecad_status_name(status), err.message);
  exit(status == ECAD_CANCELLED ? 130 : 1);
}

static void *room_for(uint64_t bytes) {
  void *p = malloc(bytes > 0 ? bytes : 1);
  if (p == NULL) require(ECAD_OUT_OF_MEMORY);
  return p;
}

static const char *in(const char *dir, const char *name) {
  static char path[4096];
  if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) require(ECAD_INVALID_ARGUMENT);
  return path;
}

/* What may end a run: a signal, another thread. Both do no more than this. */
static void on_signal(int number) {
  (void)number;
  ecad_cancel_trigger(cancel);
}

static void *time_limit(void *seconds) {
  const struct timespec limit = {*(const int *)seconds, 0};
  nanosleep(&limit, NULL);
  ecad_cancel_trigger(cancel);
  return NULL;
}

/* After each item of the schedule: the prologue, then the steps. */
static int32_t on_item(void *user, uint32_t done, uint32_t of) {
  (void)user;
  fprintf(stderr, "\rstep %u of %u", done - 1, of - 1);
  return 0;
}

static ecad_io_info io_named(const ecad_program *program, const char *name) {
  ecad_io_info io = ECAD_IO_INFO_INIT;
  uint32_t i;
  for (i = 0; ecad_program_io(program, i, &io, &err) == ECAD_OK; ++i) {
    if (strcmp(io.name, name) == 0) return io;
  }
  require(err.code);
  return io;
}

/* Gives every input of the program the tensor of its name. */
static void write_inputs(ecad_state *state, const ecad_program *program, const ecad_weights *tensors) {
  ecad_program_info info = ECAD_PROGRAM_INFO_INIT;
  ecad_io_info io = ECAD_IO_INFO_INIT;
  ecad_tensor_desc t;
  uint32_t i;
  require(ecad_program_query(program, &info, &err));
  for (i = 0; i < info.num_ios; ++i) {
    require(ecad_program_io(program, i, &io, &err));
    if ((io.direction & 1) == 0) continue;
    require(ecad_weights_find(tensors, io.name, &t, &err));
    require(ecad_state_write(state, io.name, t.data, t.nbytes, &err));
  }
}

/* Prints the ops that took longest, those of all blocks and steps together. */
static void print_times(const ecad_program *program, const ecad_op_time *times, uint64_t count) {
  struct { char name[64]; double ms, gflop; } by_name[64] = {{{0}, 0, 0}};
  const int most = (int)(sizeof by_name / sizeof *by_name);
  ecad_op_info op = ECAD_OP_INFO_INIT;
  uint64_t i;
  int k, best, line;
  for (i = 0; i < count; ++i) {
    require(ecad_program_op(program, times[i].op, &op, &err));
    for (k = 0; k < most - 1 && by_name[k].name[0] != 0 && strcmp(by_name[k].name, op.name) != 0; ++k) {}
    memcpy(by_name[k].name, op.name, sizeof op.name);
    by_name[k].ms += (double)times[i].dur_ns / 1e6;
    by_name[k].gflop += (double)op.flops / 1e9;
  }
  for (line = 0; line < 5; ++line) {
    for (best = 0, k = 1; k < most; ++k) best = by_name[k].ms > by_name[best].ms ? k : best;
    if (by_name[best].ms > 0) printf("  %-24s %8.2f ms %8.1f GFLOP/s\n", by_name[best].name, by_name[best].ms, by_name[best].gflop / by_name[best].ms * 1e3);
    by_name[best].ms = 0;
  }
}

static void save(const char *path, const void *data, uint64_t bytes) {
  FILE *f = fopen(path, "wb");
  if (f == NULL || fwrite(data, 1, bytes, f) != bytes || fclose(f) != 0) {
    perror(path);
    exit(1);
  }
}

int main(int argc, char **argv) {
  const char *picture = "picture.png", *latents_file = NULL, *dir;
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  ecad_schedule_info schedule = ECAD_SCHEDULE_INFO_INIT;
  ecad_device *device;
  ecad_weights *weights, *inputs;
  ecad_program *denoise, *decode;
  ecad_state *state, *decoder;
  ecad_io_info latents, image;
  void *latent_values;
  float *values;
  unsigned char *rgb;
  struct sigaction action;
  pthread_t timer;
  ecad_status status;
  uint32_t index = 0;
  uint64_t i;
  int option, seconds = 0;

  while ((option = getopt(argc, argv, "o:s:l:t:z:")) != -1) {
    switch (option) {
      case 'o': picture = optarg; break;
      case 's': index = (uint32_t)strtoul(optarg, NULL, 10); break;
      case 'l': seconds = atoi(optarg); break;
      case 't': config.num_threads = atoi(optarg); break;
      case 'z': latents_file = optarg; break;
      default: return 2;
    }
  }
  if (optind + 1 != argc) return fprintf(stderr, "usage: picture [-o picture.png] [-s schedule] [-l seconds] [-t threads] [-z latents.f32] DIR\n"), 2;
  dir = argv[optind];

  require(ecad_device_open(&config, &device, &err));
  require(ecad_weights_open(device, in(dir, "weights.safetensors"), &weights, &err));
  require(ecad_weights_open(device, in(dir, "inputs.safetensors"), &inputs, &err));
  require(ecad_program_open(device, weights, in(dir, "denoise.ecadprog"), &denoise, &err));
  require(ecad_program_open(device, weights, in(dir, "decoder.ecadprog"), &decode, &err));
  require(ecad_program_schedule_query(denoise, index, &schedule, &err));
  require(ecad_state_create(denoise, &state, &err));
  write_inputs(state, denoise, inputs);

  if ((cancel = ecad_cancel_create()) == NULL) require(ECAD_OUT_OF_MEMORY);
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, NULL);
  if (seconds > 0 && pthread_create(&timer, NULL, time_limit, &seconds) != 0) require(ECAD_INTERNAL);
  args.cancel = cancel;
  args.on_item = on_item;
  args.times = (ecad_op_time *)room_for(schedule.num_op_times * sizeof *args.times);
  args.times_cap = schedule.num_op_times;
  status = ecad_run_schedule(state, denoise, index, &args, &err);
  fprintf(stderr, "\n");
  require(status);

  latents = io_named(denoise, "latents");
  latent_values = room_for(latents.nbytes);
  require(ecad_state_read(state, "latents", latent_values, latents.nbytes, &err));
  if (latents_file != NULL) save(latents_file, latent_values, latents.nbytes);
  require(ecad_state_create(decode, &decoder, &err));
  require(ecad_state_write(decoder, "latents", latent_values, latents.nbytes, &err));
  require(ecad_run_schedule(decoder, decode, 0, NULL, &err));
  image = io_named(decode, "image"); /* [B, height, width, 3]; the first one is written */
  values = (float *)room_for(image.nbytes);
  require(ecad_state_read(decoder, "image", values, image.nbytes, &err));
  rgb = (unsigned char *)room_for((uint64_t)(3 * image.dims[1] * image.dims[2]));
  for (i = 0; i < (uint64_t)(3 * image.dims[1] * image.dims[2]); ++i) rgb[i] = png_pixel(values[i]);
  if (png_write(picture, rgb, (uint32_t)image.dims[2], (uint32_t)image.dims[1]) != 0) return perror(picture), 1;

  printf("%s: schedule %s, %.2f GFLOP; the longest ops:\n", picture, schedule.name, (double)schedule.flops / 1e9);
  print_times(denoise, args.times, args.times_len < args.times_cap ? args.times_len : args.times_cap);

  free(rgb), free(values), free(latent_values), free(args.times);
  ecad_state_release(decoder), ecad_state_release(state); /* in any order */
  ecad_program_release(decode), ecad_program_release(denoise);
  ecad_weights_release(inputs), ecad_weights_release(weights);
  ecad_device_release(device);
  if (seconds == 0) ecad_cancel_release(cancel); /* else the timer still has it, and the process ends */
  return 0;
}
