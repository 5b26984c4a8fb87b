/* gorgonia.org/cu was written for older CUDA headers: five functions that it calls have other parameters in those of CUDA 13. The driver still
 * exports the old ones; this header, first on the include path, gives cu their names back. */
#ifndef ECAD_CUDEV_SHIM_CUDA_H
#define ECAD_CUDEV_SHIM_CUDA_H
#include_next <cuda.h>

#undef cuCtxCreate
#undef cuMemAdvise
#undef cuMemPrefetchAsync
#undef cuGraphGetEdges
#undef cuGraphAddDependencies

CUresult CUDAAPI cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device);
/* a function: cgo does not find a macro for a symbol that it does not know */
static inline CUresult cuCtxCreate(CUcontext *context, unsigned int flags, CUdevice device) { return cuCtxCreate_v2(context, flags, device); }
CUresult CUDAAPI cuMemAdvise(CUdeviceptr pointer, size_t count, CUmem_advise advice, CUdevice device);
CUresult CUDAAPI cuMemPrefetchAsync(CUdeviceptr pointer, size_t count, CUdevice device, CUstream stream);
CUresult CUDAAPI cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *edges);
CUresult CUDAAPI cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t dependencies);

#endif
