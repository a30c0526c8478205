//! What a pause of the port means for what the NIC sends: frames of paused priorities wait, in their order, and others
//! overtake them. When many wait, or the whole link is paused, nothing more is made, and the queues of the drivers fill up.

use rocinante_wire::time::Time;

use super::core::{Core, NicFrame};
use super::port::control::Request;

/// Frames that wait before nothing more is made.
const ROOM: usize = 256;

/// Does what a pause frame asks for.
#[cold]
pub fn heed(core: &mut Core, request: &Request) {
    let (_, rate) = core.port.operational_speed();
    let (flow, now) = (core.port.flow_control, core.now);
    let port = &mut core.port;
    let counters = &mut port.counters.received;
    port.pauses.heed(request, &flow, rate, now, counters);
    core.out.paused = true;
}

/// What may leave now.
#[allow(clippy::large_enum_variant)] // the large one is the common one
pub enum Turn {
    /// There is no pause any more.
    Over,
    /// This frame, which has waited.
    Frame(NicFrame),
    /// Frames of other priorities than these (a bit each).
    Others(u8),
    /// Nothing.
    None,
}

/// Looks at the time, and whether what has waited may go.
#[cold]
pub fn turn(core: &mut Core) -> Turn {
    if !core.port.link_up() {
        core.out.held.clear();
    }
    let now = core.now;
    let port = &mut core.port;
    let mask = port.pauses.mask(now, &mut port.counters.received);
    let free = |(priority, _): &(u8, NicFrame)| mask >> priority & 1 == 0;
    if let Some(at) = core.out.held.iter().position(free)
        && let Some((_, frame)) = core.out.held.remove(at)
    {
        return Turn::Frame(frame);
    }
    if mask == 0 {
        core.out.paused = false;
        return Turn::Over;
    }
    if mask == 0xff || core.out.held.len() >= ROOM {
        return Turn::None;
    }
    Turn::Others(mask)
}

/// Has a frame wait if its priority is one of those in `mask`.
pub fn hold(core: &mut Core, mask: u8, frame: NicFrame) -> Option<NicFrame> {
    let priority = priority(core, &frame);
    if mask >> priority & 1 == 0 {
        return Some(frame);
    }
    core.out.held.push_back((priority, frame));
    None
}

/// When to look again; what else there is to do may be earlier.
pub fn next(core: &Core) -> Option<Time> {
    core.port.pauses.next().or(Some(Time::ZERO))
}

/// Whether frames may be made while there is a pause.
pub fn may_make(core: &Core) -> bool {
    core.out.held.len() < ROOM && !core.port.pauses.is_of_link()
}

/// The priority of a frame that leaves, as the port is told to find it.
fn priority(core: &Core, frame: &NicFrame) -> u8 {
    let mut head = [0; 20];
    if !frame.copy_to(0, &mut head) {
        return core.port.qos.default_priority;
    }
    let [.., t0, t1, a, b, c, d, e, f] = head;
    let (pcp, ethertype, l3) = match [t0, t1] {
        [0x81, 0x00] => (Some(a >> 5), [c, d], [e, f]),
        ethertype => (None, ethertype, [a, b]),
    };
    let dscp = || match ethertype {
        [0x08, 0x00] => Some(l3[1] >> 2),
        [0x86, 0xdd] => Some((l3[0] << 4 | l3[1] >> 4) >> 2),
        _ => None,
    };
    core.port.qos.priority(pcp, dscp) & 7
}
