// All kernels for one instruction set: RMEETO_ISA names it, the compiler's flags choose it.
#include "kernels.h"

#include "block.h"
#include "block_backward.h"
#include "conv.h"
#include "ends.h"
#include "layout.h"
#include "merge.h"
#include "nearest.h"
#include "norm.h"
#include "pairs.h"
#include "scan.h"
#include "scan_backward.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

namespace rmeeto::RMEETO_ISA {

extern const Kernels kernels;
const Kernels kernels = {
    TEXT(RMEETO_ISA), scan_forward,   scan_backward, conv_forward, conv_backward, norm_forward,  norm_backward,
    nearest,          merge,          merge_backward, lay_out,     pairs,         block_forward, block_backward,
    BLOCK_KERNELS,    END_KERNELS,
};

}  // namespace rmeeto::RMEETO_ISA
