// All kernels for one instruction set: RMEETO_ISA names it, the compiler's flags choose it.
#include "kernels.h"

#include "block.h"
#include "block_backward.h"
#include "conv.h"
#include "layout.h"
#include "linear.h"
#include "merge.h"
#include "nearest.h"
#include "neighbours.h"
#include "norm.h"
#include "pairs.h"
#include "scan.h"
#include "scan_backward.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

namespace rmeeto::RMEETO_ISA {

extern const Kernels kernels;
const Kernels kernels = {
    TEXT(RMEETO_ISA), selective_scan, selective_scan_backward, causal_conv, causal_conv_backward,
    add_norm, add_norm_backward, find_nearest, merge_rows, merge_rows_backward, lay_out, closest_pairs,
    neighbour_pairs, mamba_block, mamba_block_backward, BLOCK_KERNELS, LINEAR_KERNELS,
};

}  // namespace rmeeto::RMEETO_ISA
