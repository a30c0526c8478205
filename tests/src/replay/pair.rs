//! Two sessions on one cable, in virtual time.

use std::time::Duration;

use rocinante_device::mlx5::{GuestPayload, Input};
use rocinante_wire::buf::BufPool;
use rocinante_wire::time::Time;

use super::Session;

/// How long a frame is on its way.
const FLIGHT: Duration = Duration::from_micros(1);

/// Two sessions and what goes between them.
pub struct Pair {
    /// The two ends.
    pub ends: [Session; 2],
    /// Frames sent by each end, as bytes.
    pub frames: Vec<(usize, Vec<u8>)>,
    buffers: BufPool,
    now: Time,
}

impl Pair {
    /// Connects them.
    #[must_use]
    pub fn new(ends: [Session; 2]) -> Pair {
        Pair {
            ends,
            frames: Vec::new(),
            buffers: BufPool::for_frames(64),
            now: Time::ZERO,
        }
    }

    /// Lets `time` pass, with all frames delivered.
    ///
    /// # Panics
    ///
    /// If a frame's payload is gone.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for from in 0..2 {
                while let Some(frame) = self.ends[from].function.nic.poll_transmit(self.now) {
                    let frame = frame
                        .materialize::<GuestPayload>(&self.buffers)
                        .expect("payload in memory");
                    let mut bytes = Vec::new();
                    frame.to_bytes(&mut bytes).expect("bytes");
                    self.frames.push((from, bytes));
                    self.ends[1 - from].function.nic.receive(self.now, &frame);
                }
            }
            self.now += FLIGHT;
            for side in &mut self.ends {
                side.function.now = self.now;
                side.function.handle(Input::Tick);
            }
        }
    }
}
