// Misuse of the C interface, struct sizes, weights.
#include <cstddef>
#include <functional>

#include "corpus.h"

TEST(huge_sizes_are_out_of_memory) {
  writer::Program p;
  const uint32_t big = p.add_tensor(p.add_buffer(writer::kArena, uint64_t{1} << 47, ""), writer::kF32, {4});
  const uint32_t x = p.persistent("x", writer::kF32, {4});
  p.op(writer::kCopy, {x}, {big});
  auto device = open_device();
  const auto bytes = p.bytes();
  ecad_program* program = nullptr;
  CHECK_OK(ecad_program_check(bytes.data(), bytes.size(), &err));
  CHECK_FAILS(ecad_program_load(device.get(), nullptr, bytes.data(), bytes.size(), &program, &err), ECAD_OUT_OF_MEMORY, "out of memory");
  CHECK(program == nullptr);
  auto fine = load(device.get(), nullptr, corpus::small());  // the device is as good as before
}

TEST(null_arguments) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, corpus::small());
  auto state = new_state(program.get());
  ecad_device* d = nullptr;
  ecad_weights* w = nullptr;
  ecad_program* p = nullptr;
  ecad_state* s = nullptr;
  size_t n = 0;
  char byte = 0;
  const ecad_run_item item{0, 0};
  CHECK_FAILS(ecad_device_open(nullptr, nullptr, &err), ECAD_INVALID_ARGUMENT, "out is NULL");
  CHECK_FAILS(ecad_device_query(nullptr, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_weights_create(nullptr, nullptr, 0, &w, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_weights_create(device.get(), nullptr, 1, &w, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_weights_open(device.get(), nullptr, &w, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_load(nullptr, nullptr, &byte, 1, &p, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_load(device.get(), nullptr, nullptr, 1, &p, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_load(device.get(), nullptr, &byte, 1, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_open(device.get(), nullptr, nullptr, &p, &err), ECAD_INVALID_ARGUMENT, "path is NULL");
  CHECK_FAILS(ecad_program_inspect(&byte, 1, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_weights_find(nullptr, "x", nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_query(nullptr, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_section(program.get(), 0, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_schedule_query(nullptr, 0, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_io(program.get(), 0, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_op(nullptr, 0, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_program_schedule(program.get(), 0, nullptr, 1, &n, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_state_create(nullptr, &s, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_state_fork(nullptr, &s, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_state_reset(nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_state_write(state.get(), nullptr, &byte, 1, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_state_write(state.get(), "x", nullptr, 24, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_state_read(nullptr, "x", &byte, 1, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_state_read_buffer(nullptr, 0, &byte, 1, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_state_write_buffer(nullptr, 0, &byte, 1, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_run(nullptr, program.get(), &item, 1, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_run(state.get(), program.get(), nullptr, 1, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_FAILS(ecad_run_schedule(state.get(), nullptr, 0, nullptr, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_EQ(ecad_run(nullptr, nullptr, nullptr, 0, nullptr, nullptr), ECAD_INVALID_ARGUMENT);
  ecad_device_release(d);
  ecad_weights_release(nullptr);
  ecad_program_release(nullptr);
  ecad_state_release(nullptr);
  ecad_cancel_release(nullptr);
  ecad_cancel_trigger(nullptr);
  ecad_cancel_reset(nullptr);
}

TEST(wrong_values) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, corpus::small());
  auto state = new_state(program.get());
  float v[6];
  CHECK_FAILS(ecad_state_write(state.get(), "y", v, sizeof v, &err), ECAD_INVALID_ARGUMENT, "io \"y\" does not exist; there are: x");
  CHECK_FAILS(ecad_state_write(state.get(), "x", v, 20, &err), ECAD_SHAPE_MISMATCH, "\"x\" has 24 bytes, the caller gives 20");
  CHECK_FAILS(ecad_state_read_buffer(state.get(), 1, v, 24, &err), ECAD_INVALID_ARGUMENT, "persistent buffer 1 does not exist");
  const ecad_run_item items[2] = {{1, 0}, {0, 2}};
  CHECK_FAILS(ecad_run(state.get(), program.get(), &items[0], 1, nullptr, &err), ECAD_INVALID_ARGUMENT, "section 1 does not exist");
  CHECK_FAILS(ecad_run(state.get(), program.get(), &items[1], 1, nullptr, &err), ECAD_INVALID_ARGUMENT, "step 2 does not exist");
  CHECK_FAILS(ecad_run_schedule(state.get(), program.get(), 1, nullptr, &err), ECAD_INVALID_ARGUMENT, "schedule 1 does not exist");
  CHECK_OK(ecad_run(state.get(), program.get(), nullptr, 0, nullptr, &err));
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  args.flags = 2;
  CHECK_FAILS(ecad_run_schedule(state.get(), program.get(), 0, &args, &err), ECAD_INVALID_ARGUMENT, "flags 2");
  ecad_io_info io{};
  io.struct_size = sizeof io;
  CHECK_FAILS(ecad_program_io(program.get(), 1, &io, &err), ECAD_INVALID_ARGUMENT, "1 does not exist, there are 1");
  writer::Program output = corpus::small();
  output.ios[0].direction = 2;
  auto p2 = load(device.get(), nullptr, output);
  auto s2 = new_state(p2.get());
  CHECK_FAILS(ecad_state_write(s2.get(), "x", v, sizeof v, &err), ECAD_INVALID_ARGUMENT, "is an output");
}

TEST(devices) {
  char why[8] = "xxxxxxx";
  CHECK_EQ(ecad_device_count(ECAD_BACKEND_REFERENCE, why, sizeof why), 1);
  CHECK_EQ(why[0], 0);
  CHECK_EQ(ecad_device_count(ECAD_BACKEND_CUDA, why, sizeof why), 0);
  CHECK_EQ(std::string(why), "libecad");  // cut to fit
  char all[100];
  CHECK_EQ(ecad_device_count(ECAD_BACKEND_CUDA, all, sizeof all), 0);
  CHECK(std::strstr(all, "built without CUDA") != nullptr);
  CHECK_EQ(ecad_device_count(77, nullptr, 0), 0);
  ecad_device* d = nullptr;
  const auto open = [&](int32_t backend, int32_t ordinal, int32_t threads, int32_t isa, uint32_t flags, ecad_error* err, int32_t gemm = 0) {
    const ecad_device_config c{sizeof c, backend, ordinal, threads, isa, flags, gemm};
    return ecad_device_open(&c, &d, err);
  };
  CHECK_FAILS(open(ECAD_BACKEND_CUDA, 0, 0, 0, 0, &err), ECAD_NO_DEVICE, "built without CUDA");
  CHECK_FAILS(open(0, 1, 0, 0, 0, &err), ECAD_NO_DEVICE, "ordinal 0, not 1");
  CHECK_FAILS(open(9, 0, 0, 0, 0, &err), ECAD_INVALID_ARGUMENT, "backend 9");
  CHECK_FAILS(open(0, 0, -1, 0, 0, &err), ECAD_INVALID_ARGUMENT, "threads");
  CHECK_FAILS(open(0, 0, 0, 5, 0, &err), ECAD_INVALID_ARGUMENT, "isa 5");
  CHECK_FAILS(open(0, 0, 0, 0, 2, &err), ECAD_INVALID_ARGUMENT, "flags 2");
  CHECK_FAILS(open(0, 0, 0, 0, ECAD_DEVICE_NO_GRAPHS, &err), ECAD_INVALID_ARGUMENT, "for the CUDA backend");
  CHECK_FAILS(open(0, 0, 0, 0, 0, &err, 3), ECAD_INVALID_ARGUMENT, "gemm 3");
  CHECK_FAILS(open(ECAD_BACKEND_REFERENCE, 0, 0, 0, 0, &err, ECAD_GEMM_CUBLASLT), ECAD_INVALID_ARGUMENT, "for the CUDA backend");
  CHECK(d == nullptr);
  CHECK_EQ(std::string(ecad_status_name(ECAD_NOT_READY)), "not ready");
  CHECK_EQ(std::string(ecad_status_name(-99)), "unknown");
  CHECK_EQ(ecad_abi_version(), static_cast<uint32_t>(ECAD_ABI_MAJOR) << 16 | ECAD_ABI_MINOR);
}

TEST(struct_sizes) {
  auto device = open_device();
  auto program = load(device.get(), nullptr, corpus::small());
  // An older caller: knows the first fields of an info struct, and nothing past them is touched.
  ecad_program_info info;
  std::memset(&info, 0xAA, sizeof info);
  info.struct_size = 12;
  CHECK_OK(ecad_program_query(program.get(), &info, &err));
  CHECK_EQ(info.num_ops, 2u);
  CHECK_EQ(info.num_sections, 1u);
  CHECK_EQ(info.num_schedules, 0xAAAAAAAAu);
  CHECK_EQ(info.struct_size, 12u);
  info.struct_size = 0;
  CHECK_FAILS(ecad_program_query(program.get(), &info, &err), ECAD_INVALID_ARGUMENT, "struct_size 0 is not set");
  // A newer caller: what it knows more must be 0.
  struct { ecad_device_config c; uint32_t more; } newer{ECAD_DEVICE_CONFIG_INIT, 0};
  newer.c.backend = ECAD_BACKEND_REFERENCE;
  newer.c.struct_size = sizeof newer;
  ecad_device* d = nullptr;
  CHECK_OK(ecad_device_open(&newer.c, &d, &err));
  ecad_device_release(d);
  newer.more = 1;
  CHECK_FAILS(ecad_device_open(&newer.c, &d, &err), ECAD_UNSUPPORTED, "a field set that this library does not know");
  // An older ecad_error with a short message, and one that was never initialised.
  ecad_error err;
  std::memset(&err, 0x55, sizeof err);
  err.struct_size = offsetof(ecad_error, message) + 6;
  CHECK_EQ(ecad_state_reset(nullptr, &err), ECAD_INVALID_ARGUMENT);
  CHECK_EQ(std::string(err.message), "state");
  CHECK_EQ(err.message[6], 0x55);
  std::memset(&err, 0x55, sizeof err);
  err.struct_size = 0;
  CHECK_EQ(ecad_state_reset(nullptr, &err), ECAD_INVALID_ARGUMENT);
  CHECK_EQ(err.code, 0x55555555);
  // Run arguments of a caller that knows no times_len.
  auto state = new_state(program.get());
  write(state.get(), "x", {1, 2, 3, 4, 5, 6});
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  args.struct_size = offsetof(ecad_run_args, times_len);
  args.times_len = 123;
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, &args, &err));
  CHECK_EQ(args.times_len, 123u);
}

TEST(queries) {
  auto device = open_device();
  auto weights = corpus::weights(device.get());
  auto program = load(device.get(), weights.get(), corpus::every_op());
  ecad_program_info info{};
  info.struct_size = sizeof info;
  CHECK_OK(ecad_program_query(program.get(), &info, &err));
  CHECK_EQ(info.num_ops, 19u);
  CHECK_EQ(info.num_steps, 3u);
  CHECK_EQ(info.num_schedules, 2u);
  CHECK_EQ(info.slot_bytes, 96u);
  CHECK_EQ(info.persistent_bytes, 384u + 8 + 72 + 48 + 96);
  ecad_io_info io{};
  io.struct_size = sizeof io;
  CHECK_OK(ecad_program_io(program.get(), 0, &io, &err));
  CHECK_EQ(std::string(io.name), "latents");
  CHECK_EQ(io.rank, 4);
  CHECK_EQ(io.dims[1], 3);
  CHECK_EQ(io.nbytes, 384u);
  CHECK_EQ(io.direction, 3);
  ecad_op_info op{};
  op.struct_size = sizeof op;
  CHECK_OK(ecad_program_op(program.get(), 4, &op, &err));
  CHECK_EQ(std::string(op.name), "qkv");
  CHECK_EQ(op.flops, 2u * 8 * 18 * 6);
  CHECK_EQ(op.bytes, 8u * 6 * 2 + 18 * 6 * 4 + 18 * 4 + 8 * 18 * 2);  // bfloat16 activations, float32 weights as stored
  CHECK_OK(ecad_program_op(program.get(), 5, &op, &err));
  CHECK_EQ(std::string(op.name), "rotate");
  CHECK_EQ(op.flops, 9u * 2 * 2 * 4 * 6);
  CHECK_EQ(op.bytes, 4u * 2 * 4 * 6 * 2 + 2 * 6 * 4 + 4 * 6 * 4);
  CHECK_OK(ecad_program_op(program.get(), 6, &op, &err));
  CHECK_EQ(op.flops, 4u * 2 * 4 * 4 * 6);
  CHECK_EQ(op.block, 0);
  CHECK_EQ(op.component, 0);
  CHECK_EQ(op.section, 1);
  ecad_section_info section = ECAD_SECTION_INFO_INIT;
  CHECK_OK(ecad_program_section(program.get(), 1, &section, &err));
  CHECK(section.first_op <= 4 && 4 < section.first_op + section.num_ops);
  CHECK(section.name[0] != 0);
  CHECK_FAILS(ecad_program_section(program.get(), info.num_sections, &section, &err), ECAD_INVALID_ARGUMENT, "does not exist");
  ecad_schedule_info schedule = ECAD_SCHEDULE_INFO_INIT;
  CHECK_OK(ecad_program_schedule_query(program.get(), 0, &schedule, &err));
  CHECK_EQ(schedule.num_items, 5u);
  CHECK_FAILS(ecad_program_schedule_query(program.get(), 2, &schedule, &err), ECAD_INVALID_ARGUMENT, "2 does not exist, there are 2");
  // The sizes of a program are known before it is loaded.
  const auto bytes = corpus::every_op().bytes();
  ecad_program_info before = ECAD_PROGRAM_INFO_INIT;
  CHECK_OK(ecad_program_inspect(bytes.data(), bytes.size(), &before, &err));
  CHECK(std::memcmp(&before, &info, sizeof info) == 0);
  CHECK_FAILS(ecad_program_inspect(bytes.data(), bytes.size() - 1, &before, &err), ECAD_BAD_PROGRAM, "");
}

TEST(times_and_items_of_a_schedule) {
  auto device = open_device();
  auto weights = corpus::weights(device.get());
  auto program = load(device.get(), weights.get(), corpus::every_op());
  ecad_section_info section = ECAD_SECTION_INFO_INIT;
  ecad_schedule_info schedule = ECAD_SCHEDULE_INFO_INIT;
  CHECK_OK(ecad_program_schedule_query(program.get(), 0, &schedule, &err));
  // Room for the times of a schedule is what it says.
  auto state = new_state(program.get());
  write(state.get(), "latents", std::vector<float>(96));
  const int32_t counts[2] = {4, 1};
  CHECK_OK(ecad_state_write(state.get(), "counts", counts, sizeof counts, &err));
  ecad_run_args args = ECAD_RUN_ARGS_INIT;
  ecad_op_time first;
  args.times = &first;
  args.times_cap = 1;
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, &args, &err));
  CHECK_EQ(args.times_len, schedule.num_op_times);
  uint64_t flops = 0;
  ecad_op_info op{};
  op.struct_size = sizeof op;
  std::vector<ecad_run_item> run(schedule.num_items);
  size_t length = 0;
  CHECK_OK(ecad_program_schedule(program.get(), 0, run.data(), run.size(), &length, &err));
  for (const ecad_run_item& item : run) {
    CHECK_OK(ecad_program_section(program.get(), item.section, &section, &err));
    for (uint32_t i = section.first_op; i < section.first_op + section.num_ops; ++i) {
      CHECK_OK(ecad_program_op(program.get(), i, &op, &err));
      flops += op.flops;
    }
  }
  CHECK_EQ(flops, schedule.flops);
  ecad_run_item items[2] = {{9, 9}, {9, 9}};
  size_t count = 0;
  CHECK_OK(ecad_program_schedule(program.get(), 0, items, 1, &count, &err));
  CHECK_EQ(count, 5u);
  CHECK_EQ(items[0].section, 0u);
  CHECK_EQ(items[1].section, 9u);
  CHECK_OK(ecad_program_schedule(program.get(), 1, nullptr, 0, &count, &err));
  CHECK_EQ(count, 1u);
}

TEST(weights_that_do_not_fit) {
  auto device = open_device(), other = open_device();
  const auto bytes = corpus::every_op().bytes();
  ecad_program* p = nullptr;
  CHECK_FAILS(ecad_program_load(device.get(), nullptr, bytes.data(), bytes.size(), &p, &err), ECAD_INVALID_ARGUMENT, "needs weights");
  const auto load_with = [&](std::vector<ecad_tensor_desc> tensors, ecad_error* err) {
    ecad_weights* w = nullptr;
    ecad_status s = ecad_weights_create(device.get(), tensors.data(), tensors.size(), &w, err);
    if (s == ECAD_OK) s = ecad_program_load(device.get(), w, bytes.data(), bytes.size(), &p, err);
    ecad_program_release(p);
    p = nullptr;
    ecad_weights_release(w);
    return s;
  };
  const auto good = corpus::tensors();
  const auto with = [&](size_t i, const std::function<void(ecad_tensor_desc*)>& change) {
    auto t = good;
    change(&t[i]);
    return t;
  };
  CHECK_OK(load_with(good, &err));
  CHECK_OK(load_with(with(1, [](ecad_tensor_desc* d) { d->rank = 3; d->dims[0] = 1; d->dims[1] = 18; d->dims[2] = 1; }), &err));  // dims of 1 do not count
  const auto patches = [](int64_t rows, int64_t values) {
    return [=](ecad_tensor_desc* d) {
      d->rank = 2;
      d->dims[0] = rows;
      d->dims[1] = values;
      d->nbytes = static_cast<uint64_t>(rows * values) * 4;
    };
  };
  REQUIRE(std::string(good[4].name) == "patch.weight");
  CHECK_OK(load_with(with(4, patches(6, 12)), &err));  // a matrix serves as filters [6,3,2,2]
  CHECK_FAILS(load_with(with(4, patches(12, 6)), &err), ECAD_BAD_WEIGHTS, "tensor \"patch.weight\" is [12,6] (dims of 1 left out), the program needs [6,3,2,2]");
  CHECK_FAILS(load_with(with(4, patches(6, 13)), &err), ECAD_BAD_WEIGHTS, "the program needs [6,3,2,2]");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->name = "other"; }), &err), ECAD_BAD_WEIGHTS, "tensor \"qkv.bias\" is missing");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->dims[0] = 9; d->nbytes = 36; }), &err), ECAD_BAD_WEIGHTS, "tensor \"qkv.bias\" is [9] (dims of 1 left out), the program needs [18]");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->dtype = ECAD_INT32; }), &err), ECAD_BAD_WEIGHTS, "is no float32");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->name = "table"; }), &err), ECAD_BAD_WEIGHTS, "two tensors are called \"table\"");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->nbytes = 70; }), &err), ECAD_SHAPE_MISMATCH, "has 70 bytes, its shape needs 72");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->dims[0] = -1; }), &err), ECAD_INVALID_ARGUMENT, "dim 0 is -1");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->rank = 5; }), &err), ECAD_INVALID_ARGUMENT, "rank 5");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->dtype = ECAD_DTYPE_ANY; }), &err), ECAD_INVALID_ARGUMENT, "dtype 0");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->name = nullptr; }), &err), ECAD_INVALID_ARGUMENT, "tensor 1 has no name");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->data = nullptr; }), &err), ECAD_INVALID_ARGUMENT, "data is NULL");
  CHECK_FAILS(load_with(with(1, [](ecad_tensor_desc* d) { d->rank = 4; for (auto& n : d->dims) n = int64_t{1} << 40; }), &err), ECAD_INVALID_ARGUMENT, "overflows");
  auto elsewhere = corpus::weights(other.get());
  CHECK_FAILS(ecad_program_load(device.get(), elsewhere.get(), bytes.data(), bytes.size(), &p, &err), ECAD_INVALID_ARGUMENT, "another device");
}

CHECK_MAIN()
