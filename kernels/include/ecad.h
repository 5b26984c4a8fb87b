/* ecad.h - the C interface of libecad, which runs diffusion transformers by compiled caching schedules.
 *
 *   ecad_error err = ECAD_ERROR_INIT;
 *   ecad_device *dev; ecad_weights *w; ecad_program *prog; ecad_state *st;
 *   if (ecad_device_open(NULL, &dev, &err)) return puts(err.message);
 *   ecad_weights_open(dev, "weights.safetensors", &w, &err);            the four files: ecadx compile
 *   ecad_program_open(dev, w, "denoise.ecadprog", &prog, &err);
 *   ecad_state_create(prog, &st, &err);
 *   ecad_state_write(st, "latents", latents, latents_bytes, &err);   ... prompt_embeds, prompt_counts
 *   ecad_run_schedule(st, prog, 0, NULL, &err);
 *   ecad_state_read(st, "latents", latents, latents_bytes, &err);
 *
 * kernels/README.md is the manual, kernels/examples shows whole programs.
 *
 * Errors. Every function that can fail returns an ecad_status and fills *err when err is not NULL, on success too (code 0, empty message). On
 * failure *out is NULL. Besides what a function names, each may return ECAD_INVALID_ARGUMENT (NULL where something is
 * needed, a struct_size that cannot be, an index that does not exist), ECAD_OUT_OF_MEMORY and ECAD_INTERNAL (a bug here: please report).
 * Nothing throws, aborts, exits or prints.
 *
 * Ownership. What *out receives is released by the caller with the function of its type, in any order: what still depends on an object keeps it
 * alive. Releasing NULL is fine. Pointers that a function takes are borrowed for the call, unless it says otherwise.
 *
 * Threads. device, weights, program: any number of threads. state: one thread at a time. Calls on one device are
 * serialised; two devices run side by side. ecad_cancel: any thread or signal handler. No thread has to be the one that opened something.
 *
 * Versions. Structs that may grow start with struct_size, set by the _INIT macros: the library reads and writes what the caller's header knew,
 * and refuses a field that it does not know unless it is 0. ecad_tensor_desc, ecad_run_item and ecad_op_time come in arrays: they never change.
 *
 * This header is C99 and C++11. */
#ifndef ECAD_H
#define ECAD_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define ECAD_API __declspec(dllexport)
#else
#define ECAD_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define ECAD_ABI_MAJOR 0
#define ECAD_ABI_MINOR 3

/* ---- status and errors ---------------------------------------------------------------------------------------- */

typedef int32_t ecad_status; /* ECAD_OK, or one of the codes below; ECAD_CANCELLED is positive: no error */
enum {
  ECAD_OK = 0,
  ECAD_CANCELLED = 1,
  ECAD_INVALID_ARGUMENT = -1,
  ECAD_OUT_OF_MEMORY = -2,
  ECAD_UNSUPPORTED = -3,    /* valid, but this backend cannot */
  ECAD_BAD_PROGRAM = -4,    /* program bytes fail validation */
  ECAD_BAD_WEIGHTS = -5,    /* safetensors file malformed, tensor missing or of another shape */
  ECAD_SHAPE_MISMATCH = -6, /* caller's bytes do not fit the tensor, or state and program have different layouts */
  ECAD_DEVICE_ERROR = -7,
  ECAD_NO_DEVICE = -8,
  ECAD_IO_ERROR = -9,
  ECAD_NOT_READY = -10,     /* a buffer is read that was never written */
  ECAD_INTERNAL = -11
};

/* Caller-owned: no allocation, no thread-local. message is one line, always terminated. op is the index of the op
 * concerned or -1. */
typedef struct ecad_error {
  uint32_t struct_size;
  ecad_status code;
  int32_t device_code; /* errno or cudaError_t, 0 if none */
  int32_t op;
  char message[496];
} ecad_error;
#define ECAD_ERROR_INIT { sizeof(ecad_error), 0, 0, -1, { 0 } }

/* Of the library, which may be newer than this header: major << 16 | minor. A program runs with every library of its major version whose minor
 * version is at least that of the header it was compiled with. */
ECAD_API uint32_t ecad_abi_version(void);
ECAD_API const char *ecad_version_string(void);     /* static */
ECAD_API const char *ecad_status_name(ecad_status); /* static, "ok" ... "unknown" */

/* ---- device --------------------------------------------------------------------------------------------------- */

typedef struct ecad_device ecad_device;

enum { ECAD_BACKEND_REFERENCE = 0, ECAD_BACKEND_CPU = 1, ECAD_BACKEND_CUDA = 2 }; /* int32_t in structs */

/* CPU instruction sets the cpu backend may use; the default is all that the machine has. */
enum { ECAD_ISA_AUTO = 0, ECAD_ISA_GENERIC = 1, ECAD_ISA_AVX2 = 2, ECAD_ISA_AVX512 = 3, ECAD_ISA_AMX = 4 };

/* Who multiplies matrices on a CUDA device. AUTO is ECAD, libecad's own kernels: no device has shown yet where the library is ahead of them. CUBLASLT: NVIDIA's library,
 * looked for when the device is opened (libcublasLt.so.13, then .12), where it can express the product: bfloat16 operands, one input at a fixed address (no cache
 * slot), bias, tanh-GELU or ReLU; libecad's kernels do the others. */
enum { ECAD_GEMM_AUTO = 0, ECAD_GEMM_ECAD = 1, ECAD_GEMM_CUBLASLT = 2 };

enum { ECAD_DEVICE_NO_GRAPHS = 1 }; /* CUDA: every kernel is launched by itself each time, to measure what graphs save */

typedef struct ecad_device_config {
  uint32_t struct_size;
  int32_t backend;
  int32_t ordinal;     /* CUDA device; 0 for others */
  int32_t num_threads; /* cpu: size of the device's own team, 0: all cores */
  int32_t isa;         /* cpu: ECAD_ISA_*, an upper bound; CUDA: ECAD_ISA_GENERIC keeps to kernels that every device has */
  uint32_t flags;      /* ECAD_DEVICE_* */
  int32_t gemm;        /* CUDA: ECAD_GEMM_*; 0 for others */
} ecad_device_config;
#define ECAD_DEVICE_CONFIG_INIT { sizeof(ecad_device_config), ECAD_BACKEND_CPU, 0, 0, 0, 0, 0 }

typedef struct ecad_device_info {
  uint32_t struct_size;
  int32_t backend;
  int32_t num_threads;
  int32_t fast_bfloat16;  /* 1: the device multiplies bfloat16 faster than float32 */
  uint64_t memory_total;  /* bytes */
  uint64_t memory_used;   /* bytes that libecad holds on this device: packed weights, arena, states, pool */
  uint64_t memory_peak;
  char name[96];
  char features[160];     /* "avx512f avx512_bf16 amx_bf16", "sm_90" */
  uint64_t graphs;        /* CUDA: graphs instantiated so far, one per distinct section of a program that ran twice */
  uint64_t graph_bytes;   /* device memory of those that are kept */
  uint64_t graph_ns;      /* time that capturing and instantiating took in all */
} ecad_device_info;
#define ECAD_DEVICE_INFO_INIT { sizeof(ecad_device_info), 0, 0, 0, 0, 0, 0, { 0 }, { 0 }, 0, 0, 0 }

/* Number of devices of a backend: 1 for reference and cpu; 0 for CUDA when not built in or without a driver (why, when
 * not NULL, receives one line). */
ECAD_API int32_t ecad_device_count(int32_t backend, char *why, size_t why_size);
/* Starts the device's thread, and on the cpu backend its team; both end when the last object of the device is gone. config may be NULL: the cpu
 * backend with all cores. ECAD_NO_DEVICE: this build or machine has none such, never another one instead. ECAD_UNSUPPORTED: cuBLASLt was asked for and is not found. */
ECAD_API ecad_status ecad_device_open(const ecad_device_config *, ecad_device **out, ecad_error *err);
ECAD_API ecad_status ecad_device_query(ecad_device *, ecad_device_info *inout, ecad_error *err); /* set inout->struct_size; never waits for a run */
ECAD_API void ecad_device_release(ecad_device *);

/* ---- weights -------------------------------------------------------------------------------------------------- */

typedef struct ecad_weights ecad_weights;

enum { ECAD_DTYPE_ANY = 0, ECAD_FLOAT32 = 1, ECAD_BFLOAT16 = 2, ECAD_FLOAT16 = 3, ECAD_FLOAT64 = 4, ECAD_INT32 = 5, ECAD_UINT8 = 6 };

/* One tensor of a checkpoint, row-major and dense. data is borrowed: it stays valid and unchanged until the weights
 * object is gone. It need not be aligned. */
typedef struct ecad_tensor_desc {
  const char *name;
  int32_t dtype;
  int32_t rank;
  int64_t dims[4];
  const void *data;
  uint64_t nbytes;
} ecad_tensor_desc;

/* Programs look tensors up by name when they are loaded; packing for the backend happens then, once per tensor, and is
 * shared by all programs of this weights object. The descriptors and their names are copied, the data is not.
 * ECAD_SHAPE_MISMATCH: nbytes is not what dtype and dims need. */
ECAD_API ecad_status ecad_weights_create(ecad_device *, const ecad_tensor_desc *, size_t count, ecad_weights **out, ecad_error *err);
/* The same for tensors whose bytes are there only while they are read: generated, decompressed, or mapped and let go. need is called before data of
 * tensor `index` (its place in the array given) is read, and makes its bytes be there; not 0: they cannot be had, and what asked for them fails with
 * ECAD_IO_ERROR. drop is called when they will not be read until need is called again: after packing, or, where a backend reads a tensor as it lies, when the
 * last program that does so is gone. Both are called on the device's thread and must not call into that device; every need that returned 0 is
 * followed by one drop. release is called once, last: when the weights object and its programs are gone, or when this call fails. Any of the three may be NULL. */
typedef struct ecad_weights_source {
  uint32_t struct_size;
  uint32_t flags; /* 0 */
  int32_t (*need)(void *user, uint64_t index);
  void (*drop)(void *user, uint64_t index);
  void (*release)(void *user);
  void *user;
} ecad_weights_source;
#define ECAD_WEIGHTS_SOURCE_INIT { sizeof(ecad_weights_source), 0, NULL, NULL, NULL, NULL }
ECAD_API ecad_status ecad_weights_create_on_demand(ecad_device *, const ecad_tensor_desc *, size_t count, const ecad_weights_source *, ecad_weights **out, ecad_error *err);
/* All tensors of one safetensors file. The file is mapped: it must not be cut short while the weights object is alive. Its pages are let go once
 * they are packed. ECAD_IO_ERROR (device_code: errno), ECAD_BAD_WEIGHTS: not a safetensors file, or a damaged one. */
ECAD_API ecad_status ecad_weights_open(ecad_device *, const char *safetensors_path, ecad_weights **out, ecad_error *err);
/* The tensor of a name, as it was given or lies in the file: out->data is valid until the weights object is released, out->name is the caller's
 * own. So a safetensors file of inputs needs no other reader. A source is not asked for the bytes. ECAD_BAD_WEIGHTS: there is none; ECAD_UNSUPPORTED: it has more than four
 * dimensions or a dtype that is not listed above. */
ECAD_API ecad_status ecad_weights_find(const ecad_weights *, const char *name, ecad_tensor_desc *out, ecad_error *err);
ECAD_API void ecad_weights_release(ecad_weights *);

/* ---- programs ------------------------------------------------------------------------------------------------- */

typedef struct ecad_program ecad_program;

typedef struct ecad_program_info {
  uint32_t struct_size;
  uint32_t num_ops, num_sections, num_schedules, num_steps, num_ios;
  /* Memory on the device: the largest arena of all loaded programs is held once per device, persistent_bytes (slot_bytes of them cache slots)
   * by each state that has written everything, constant_bytes by each program; weights, packed, come on top. */
  uint64_t arena_bytes, persistent_bytes, slot_bytes, constant_bytes;
  uint8_t layout_hash[32]; /* programs of equal hash share states */
} ecad_program_info;
#define ECAD_PROGRAM_INFO_INIT { sizeof(ecad_program_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 } }

/* What a caller writes before a run and reads after it, by name. nbytes is all of it: dense, row-major. */
typedef struct ecad_io_info {
  uint32_t struct_size;
  int32_t dtype, rank, direction; /* direction: 1 input, 2 output, 3 both */
  int64_t dims[4];
  uint64_t nbytes;
  char name[64];
} ecad_io_info;
#define ECAD_IO_INFO_INIT { sizeof(ecad_io_info), 0, 0, 0, { 0 }, 0, { 0 } }

typedef struct ecad_op_info {
  uint32_t struct_size;
  int32_t opcode, block, component, section; /* opcode: kernels/PROGRAM.md; block, component: -1 where there is none */
  uint64_t flops, bytes; /* of one execution: arithmetic, and operand bytes read and written once */
  char name[64];
} ecad_op_info;
#define ECAD_OP_INFO_INIT { sizeof(ecad_op_info), 0, 0, 0, 0, 0, 0, { 0 } }

/* A piece of a program that runs as a whole: its ops are first_op .. first_op + num_ops - 1. */
typedef struct ecad_section_info {
  uint32_t struct_size;
  uint32_t kind; /* 0 prologue, 1 step, 2 other */
  uint32_t first_op, num_ops;
  char name[64];
} ecad_section_info;
#define ECAD_SECTION_INFO_INIT { sizeof(ecad_section_info), 0, 0, 0, { 0 } }

typedef struct ecad_schedule_info {
  uint32_t struct_size;
  uint32_t num_items;
  uint64_t num_op_times; /* ops of a whole run: what ecad_run_args.times needs room for */
  uint64_t flops;        /* of a whole run */
  char name[128];        /* as given to ecadx compile, cut to fit */
} ecad_schedule_info;
#define ECAD_SCHEDULE_INFO_INIT { sizeof(ecad_schedule_info), 0, 0, 0, { 0 } }

typedef struct ecad_run_item { uint32_t section, step; } ecad_run_item;

/* Validates bytes (kernels/PROGRAM.md) without a device or weights. ECAD_BAD_PROGRAM says what is wrong with them. */
ECAD_API ecad_status ecad_program_check(const void *bytes, size_t nbytes, ecad_error *err);
/* Checks and describes: how much memory a program will take, before anything is loaded. */
ECAD_API ecad_status ecad_program_inspect(const void *bytes, size_t nbytes, ecad_program_info *inout, ecad_error *err);
/* Validates, finds and packs the weights it names, chooses kernels. weights may be NULL when the program names none.
 * bytes are copied as far as they are needed. ECAD_BAD_PROGRAM; ECAD_BAD_WEIGHTS: a tensor is missing or of another shape or type;
 * ECAD_UNSUPPORTED: this backend lacks an op, named, for these shapes or types. */
ECAD_API ecad_status ecad_program_load(ecad_device *, ecad_weights *, const void *bytes, size_t nbytes, ecad_program **out, ecad_error *err);
/* As load, from a file. ECAD_IO_ERROR: it cannot be read (device_code: errno). */
ECAD_API ecad_status ecad_program_open(ecad_device *, ecad_weights *, const char *path, ecad_program **out, ecad_error *err);
/* Set inout->struct_size before each of these. Indices count from 0 to the numbers in ecad_program_info. */
ECAD_API ecad_status ecad_program_query(const ecad_program *, ecad_program_info *inout, ecad_error *err);
ECAD_API ecad_status ecad_program_io(const ecad_program *, uint32_t index, ecad_io_info *inout, ecad_error *err);
ECAD_API ecad_status ecad_program_op(const ecad_program *, uint32_t index, ecad_op_info *inout, ecad_error *err);
ECAD_API ecad_status ecad_program_section(const ecad_program *, uint32_t index, ecad_section_info *inout, ecad_error *err);
ECAD_API ecad_status ecad_program_schedule_query(const ecad_program *, uint32_t index, ecad_schedule_info *inout, ecad_error *err);
/* Items of schedule `index`, for ecad_run of a part of it: writes min(cap, *count) of them and sets *count to their number. The first is the
 * prologue, then one per step. */
ECAD_API ecad_status ecad_program_schedule(const ecad_program *, uint32_t index, ecad_run_item *items, size_t cap, size_t *count, ecad_error *err);
ECAD_API void ecad_program_release(ecad_program *);

/* ---- state ---------------------------------------------------------------------------------------------------- */

typedef struct ecad_state ecad_state;

/* A state is a table of references to persistent buffers: latents, sampler history, prologue results, cache slots. It
 * fits every program of the same layout hash on the same device. Buffers come from the device's pool when first written. */
ECAD_API ecad_status ecad_state_create(ecad_program *, ecad_state **out, ecad_error *err);
/* Copies the table, not the data: buffers are shared until one side writes them whole, which detaches. Both go on from here by themselves. */
ECAD_API ecad_status ecad_state_fork(ecad_state *, ecad_state **out, ecad_error *err);
/* Drops every buffer. */
ECAD_API ecad_status ecad_state_reset(ecad_state *, ecad_error *err);
/* Whole tensors, dense, in the io's dtype; nbytes must be the io's, else ECAD_SHAPE_MISMATCH. An io of direction 2 cannot be written; any that was
 * written, by the caller or by a run, can be read, else ECAD_NOT_READY. data is copied before the call returns. */
ECAD_API ecad_status ecad_state_write(ecad_state *, const char *io_name, const void *data, uint64_t nbytes, ecad_error *err);
ECAD_API ecad_status ecad_state_read(ecad_state *, const char *io_name, void *data, uint64_t nbytes, ecad_error *err);
/* As write and read, for any persistent buffer by its index among them, for tests and tools. */
ECAD_API ecad_status ecad_state_write_buffer(ecad_state *, uint32_t index, const void *data, uint64_t nbytes, ecad_error *err);
ECAD_API ecad_status ecad_state_read_buffer(ecad_state *, uint32_t index, void *data, uint64_t nbytes, ecad_error *err);
ECAD_API void ecad_state_release(ecad_state *);

/* ---- run ------------------------------------------------------------------------------------------------------ */

/* A flag that ends runs, within one op (CUDA: two items). One may serve several runs, and later ones: it stays triggered until it is reset. It may be released
 * while a run still looks at it. */
typedef struct ecad_cancel ecad_cancel;
ECAD_API ecad_cancel *ecad_cancel_create(void);   /* NULL when out of memory */
ECAD_API void ecad_cancel_trigger(ecad_cancel *); /* safe in a signal handler */
ECAD_API void ecad_cancel_reset(ecad_cancel *);
ECAD_API void ecad_cancel_release(ecad_cancel *);

typedef struct ecad_op_time {
  uint32_t item, op;        /* index into the run's items; index of the op in the program */
  uint64_t start_ns, dur_ns; /* since the run began */
} ecad_op_time;

typedef struct ecad_run_args {
  uint32_t struct_size;
  uint32_t flags;      /* ECAD_RUN_* */
  ecad_cancel *cancel; /* checked between ops, on CUDA between items, of which two may be queued; NULL: none */
  /* After each item (on CUDA: after it was queued, so up to two items early), on the device's thread; nonzero cancels. It may read the state (previews) and use other devices; running or loading on
   * this device from here is ECAD_INVALID_ARGUMENT. It must return: no longjmp, no exceptions. */
  int32_t (*on_item)(void *user, uint32_t done, uint32_t of);
  void *user;
  ecad_op_time *times; /* caller's array; NULL: no per-op clock is read. CUDA: device time by events, without graphs */
  uint64_t times_cap;
  uint64_t times_len;  /* out: how many would have been written */
} ecad_run_args;
#define ECAD_RUN_ARGS_INIT { sizeof(ecad_run_args), 0, NULL, NULL, NULL, NULL, 0, 0 }
enum { ECAD_RUN_CHECK_FINITE = 1 }; /* after each op: the first NaN or infinity is an ECAD_DEVICE_ERROR that names step, block, op */

/* Runs sections in order on the device's thread. Returns when done, ECAD_CANCELLED when cancelled (the state is then only good for reset,
 * write or release, as it is after an error). args may be NULL. ECAD_SHAPE_MISMATCH: state and program have different layouts;
 * ECAD_NOT_READY: an input that was never written, named; ECAD_DEVICE_ERROR: err->op and the message name the op. */
ECAD_API ecad_status ecad_run(ecad_state *, ecad_program *, const ecad_run_item *items, size_t count, ecad_run_args *args, ecad_error *err);
/* Runs schedule `index` of the program from its first item to its last. */
ECAD_API ecad_status ecad_run_schedule(ecad_state *, ecad_program *, uint32_t index, ecad_run_args *args, ecad_error *err);

#ifdef __cplusplus
}
#endif
#endif
