//! Receive buffers of the port, and the pools behind them: what PPTB, PBMC, SBPR and SBCM remember.
//! Source: `pptb_reg`, `pbmc_reg`, `sbpr_reg`, `sbcm_reg` of Linux `mlx5_ifc.h`.
//!
//! Frames do not wait in them: an arriving frame is in guest memory or dropped before the next.

/// Bytes of a cell, the unit of sizes and thresholds.
pub const CELL: u16 = 128;
/// Cells of all buffers of the port together.
pub const CELLS: u16 = 2048;
/// Buffers, of which the last two are internal.
pub const BUFFERS: usize = 10;
/// Pools of each direction.
pub const POOLS: usize = 2;

/// A buffer. Sizes are in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Drops when it is full, instead of pausing the sender.
    pub lossy: bool,
    /// Port shared buffer: `epsb`.
    pub shared: bool,
    /// Size.
    pub size: u16,
    /// Fullness from which on the sender is paused.
    pub xoff: u16,
    /// Fullness from which on it may go on.
    pub xon: u16,
}

/// What a buffer may take of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Cells kept for it.
    pub min: u32,
    /// Most that it may take, as cells or in the pool's mode.
    pub max: u32,
    /// There is no limit.
    pub unlimited: bool,
    /// Which pool.
    pub pool: u8,
}

/// A pool. Sizes are in cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Size.
    pub size: u32,
    /// As large as can be.
    pub unlimited: bool,
    /// 0 limits in cells, 1 limits relative to what is free.
    pub mode: u8,
}

/// All of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Buffer of each priority, 4 bits each.
    pub of_priority: u32,
    /// Buffer of frames that say no priority.
    pub of_untagged: u8,
    /// Buffers.
    pub buffers: [Buffer; BUFFERS],
    /// Pause time that is asked for, and after how long again.
    pub xoff_timer: (u16, u16),
    /// Pools by direction: ingress, egress.
    pub pools: [[Pool; POOLS]; 2],
    /// Shares by direction and buffer.
    pub shares: [[Share; BUFFERS]; 2],
}

impl Default for Buffers {
    /// One lossless buffer for all priorities.
    fn default() -> Self {
        let none = Buffer {
            lossy: true,
            shared: false,
            size: 0,
            xoff: 0,
            xon: 0,
        };
        let mut buffers = [none; BUFFERS];
        buffers[0] = Buffer {
            lossy: false,
            shared: false,
            size: 1024,
            xoff: 512,
            xon: 432,
        };
        let pool = |size| Pool {
            size,
            unlimited: false,
            mode: 1,
        };
        Buffers {
            of_priority: 0,
            of_untagged: 0,
            buffers,
            xoff_timer: (0xffff, 0x7fff),
            // Ingress and egress, lossy and lossless.
            pools: [[pool(3072), pool(1024)], [pool(3072), pool(1024)]],
            shares: [[Share::default(); BUFFERS]; 2],
        }
    }
}
