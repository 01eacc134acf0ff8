// Marks a function that is compiled for the host and, by nvcc, for the device as well.
#pragma once

#ifdef __CUDACC__
#define PTB_HOST_DEVICE __host__ __device__
#else
#define PTB_HOST_DEVICE
#endif
