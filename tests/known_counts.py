"""Numbers of activation regions known before this package counted them, with their sources."""

from __future__ import annotations

from torch_shallow.domain import Box, Domain, WholeSpace

SPACE, CUBE = WholeSpace(), Box(-1.0, 1.0)

# Linear layers in default initialisation, made in order in float32 from `torch.manual_seed(0)`, in float64, with ReLUs
# between them, as in `zoo.random_mlp`. Each was counted by two or three independent tools, which agreed.
RANDOM_NETWORKS: dict[str, tuple[tuple[int, ...], Domain, int]] = {
    "3-16-16-1 on R^3": ((3, 16, 16, 1), SPACE, 5_028),
    "4-10-10-1 on R^4": ((4, 10, 10, 1), SPACE, 7_040),
    "6-8-8-1 on R^6": ((6, 8, 8, 1), SPACE, 12_327),
    "10-8-8-1 on R^10": ((10, 8, 8, 1), SPACE, 12_170),
    "20-10-10-1 on R^20": ((20, 10, 10, 1), SPACE, 140_280),
    "3-16-16-1 on [-1,1]^3": ((3, 16, 16, 1), CUBE, 1_276),
    "4-16-16-1 on [-1,1]^4": ((4, 16, 16, 1), CUBE, 6_658),
    "5-16-16-1 on [-1,1]^5": ((5, 16, 16, 1), CUBE, 15_621),
    "6-16-16-1 on [-1,1]^6": ((6, 16, 16, 1), CUBE, 35_227),
    "8-12-12-1 on [-1,1]^8": ((8, 12, 12, 1), CUBE, 21_880),
    "10-10-10-1 on [-1,1]^10": ((10, 10, 10, 1), CUBE, 24_954),
    "12-12-1 on [-1,1]^12": ((12, 12, 1), CUBE, 4_030),
}

# Networks of the ACAS Xu family in the boxes of VNN-COMP's properties, counted by exact enumeration with an independent
# tool, whose tolerance was 1e-8. The networks are files that are not part of this repository.
ACAS_XU = {"1_1 property 3": 71_930, "1_1 property 4": 19_143, "3_3 property 9": 338_599}

# Regions of arrangements, by n: n! of x_i = x_j in R^n (T. Zaslavsky, "Facing up to arrangements", 1975), 2^n n! with
# x_i = -x_j and x_i = 0 too (the same), (n + 1)^(n - 1) of x_i - x_j in {0, 1}, i < j (J.-Y. Shi, "The Kazhdan-Lusztig
# cells in certain affine Weyl groups", 1986).
BRAID = {3: 6, 4: 24, 5: 120, 6: 720}
TYPE_B = {3: 48, 4: 384, 5: 3_840}
SHI = {3: 16, 4: 125, 5: 1_296, 6: 16_807}

# Linear pieces on R of T(x) = 2 relu(x) - 4 relu(x - 1/2), composed with itself, by depth from 1 on: 2^depth on [0, 1]
# (M. Telgarsky, "Benefits of depth in neural networks", 2016), and what is flat or falls outside: counted by hand.
TENTS = (3, 6, 10, 18, 34, 66)
