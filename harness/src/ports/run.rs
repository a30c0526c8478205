//! The thread of a port: what is at the switch goes out, what is outside comes in.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use log::{info, warn};
use rocinante_device::mlx5::NicFrame;
use rocinante_wire::buf::{Buf, BufPool, FRAME_BUF_SIZE};
use rocinante_wire::cable::CableEvent;
use rocinante_wire::frame::Frame;
use rocinante_wire::time::Time;
use rustix::event::PollFlags;
use serde_json::json;

use super::bell::Bell;
use super::counters::{OutsideCounts, add};
use super::{Backend, HEADROOM, Received, Sent, Trouble};
use crate::serve::events::Events;
use crate::serve::{Clock, Plug, notes};

/// Frames taken in one direction before the other one is looked at.
const BATCH: usize = 64;

/// Buffers kept for frames that come in.
const BUFFERS: usize = 1024;

/// How long a frame waits for room, outside or at another port of the switch, before it is lost;
/// those that follow do not wait until one has passed. Longer than a receiver is kept from its
/// work by others, shorter than a sender's patience.
const PATIENCE: Duration = Duration::from_millis(20);

/// How often an outside that is gone is asked whether it is back.
const REOPEN: Duration = Duration::from_secs(1);

/// Trouble is over when there was none for so long and something came in; until then it is not told
/// again.
const CALM: Duration = Duration::from_secs(10);

/// A frame that goes out, as bytes.
struct Outgoing {
    buf: Vec<u8>,
    /// With the headroom; 0 if nothing waits.
    len: usize,
    /// When it is given up.
    until: Time,
    /// The last one was.
    jammed: bool,
}

/// What is wrong, since when, and what it has cost.
struct Episode {
    last: Time,
    lost: u64,
    /// Nothing passes.
    gone: bool,
    /// Something has come in since.
    heard: bool,
}

/// A port with its surroundings.
pub(super) struct Runner {
    backend: Box<dyn Backend>,
    plug: Plug,
    bell: Arc<Bell>,
    counts: Arc<OutsideCounts>,
    stop: Arc<AtomicBool>,
    /// How often it has looked at its cable.
    turns: Arc<AtomicU64>,
    clock: Clock,
    events: Events,
    pool: BufPool,
    /// For the next frame from outside.
    spare: Option<Buf>,
    /// A frame from outside that the port it is for has no room for, and when that is given up.
    held: Option<(NicFrame, Time)>,
    /// The last one was given up.
    jammed: bool,
    outgoing: Outgoing,
    trouble: Option<Episode>,
    /// When to ask for an outside that is gone.
    reopen: Option<Time>,
    /// poll(2) has seen an error.
    failed: bool,
}

impl Runner {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        plug: Plug,
        bell: Arc<Bell>,
        counts: Arc<OutsideCounts>,
        (stop, turns): (Arc<AtomicBool>, Arc<AtomicU64>),
        (clock, events): (Clock, Events),
    ) -> Runner {
        Runner {
            backend,
            plug,
            bell,
            counts,
            stop,
            turns,
            clock,
            events,
            pool: BufPool::for_frames(BUFFERS),
            spare: None,
            held: None,
            jammed: false,
            outgoing: Outgoing {
                buf: vec![0; HEADROOM + FRAME_BUF_SIZE],
                len: 0,
                until: Time::ZERO,
                jammed: false,
            },
            trouble: None,
            reopen: None,
            failed: false,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            let now = self.clock.now();
            self.take_events(now);
            self.turns.fetch_add(1, Ordering::Release);
            self.look_after(now);
            let busy = self.take_in(now) | self.take_out(now);
            if !busy {
                self.rest(now);
            }
        }
    }

    fn take_events(&mut self, now: Time) {
        let (port, cable) = &mut self.plug;
        while let Some(event) = cable.poll_event(now) {
            if let CableEvent::Carrier(up) = event {
                port.set_link(up);
                self.backend.set_carrier(up);
                notes::tell_carrier(&self.events, port.name(), up);
            }
        }
    }

    /// Asks for an outside that is gone, and tells when trouble is over.
    fn look_after(&mut self, now: Time) {
        if self.reopen.is_some_and(|due| due <= now) {
            match self.backend.reopen() {
                Ok(()) => {
                    self.reopen = None;
                    self.counts.down.store(false, Ordering::Relaxed);
                    self.tell_over();
                }
                Err(_) => self.reopen = Some(now + REOPEN),
            }
        }
        let calm = |trouble: &Episode| trouble.heard && now.since(trouble.last) >= CALM;
        if self.reopen.is_none() && self.trouble.as_ref().is_some_and(calm) {
            self.tell_over();
        }
    }

    fn tell_over(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            let name = self.plug.0.name();
            let lost = trouble.lost;
            info!(target: "port", "{name}: works again; {lost} frames were lost");
            let data = || json!({ "port": name, "lost": lost });
            self.events.tell("PORT_RECOVERED", data);
        }
    }

    fn note(&mut self, now: Time, trouble: &Trouble, lost: u64) {
        let gone = matches!(trouble, Trouble::Gone(_));
        if gone && self.reopen.is_none() {
            self.counts.down.store(true, Ordering::Relaxed);
            self.reopen = Some(now + REOPEN);
        }
        match &mut self.trouble {
            Some(known) => {
                known.last = now;
                known.heard = false;
                known.lost += lost;
                // What costs a frame now and then may become worse.
                if gone && !std::mem::replace(&mut known.gone, true) {
                    self.tell_trouble(trouble);
                }
            }
            none => {
                *none = Some(Episode {
                    last: now,
                    lost,
                    gone,
                    heard: false,
                });
                self.tell_trouble(trouble);
            }
        }
    }

    fn tell_trouble(&self, trouble: &Trouble) {
        let name = self.plug.0.name();
        let (error, gone) = match trouble {
            Trouble::Passing(error) => (error, false),
            Trouble::Gone(error) => (error, true),
        };
        let error = match self.backend.explain(error) {
            Some(text) => text.to_owned(),
            None => error.to_string(),
        };
        let cost = if gone {
            "all frames are lost until it is back"
        } else {
            "frames are lost"
        };
        warn!(target: "port", "{name}: {error}: {cost}");
        let data = || json!({ "port": name, "error": error, "gone": gone });
        self.events.tell("PORT_TROUBLE", data);
    }

    /// The outside tells of trouble by itself: a frame that went out before did not arrive.
    fn told(&mut self, now: Time, trouble: &Trouble) {
        let lost = u64::from(matches!(trouble, Trouble::Passing(_)));
        self.counts.out_dropped.fetch_add(lost, Ordering::Relaxed);
        self.note(now, trouble, lost);
    }

    /// From outside to the switch.
    fn take_in(&mut self, now: Time) -> bool {
        for taken in 0..BATCH {
            let (frame, until) = match self.held.take() {
                Some(held) => held,
                None => match self.next_in(now) {
                    Some(Some(frame)) if self.jammed => (frame, now),
                    Some(Some(frame)) => (frame, now + PATIENCE),
                    // Lost or late; work was done all the same.
                    Some(None) => continue,
                    None => return taken > 0,
                },
            };
            let (port, _) = &self.plug;
            // A full port holds its senders up for a while: what waits outside is lost there.
            match port.try_send(frame) {
                Ok(()) => self.jammed = false,
                Err(frame) if now < until => {
                    self.held = Some((frame, until));
                    return taken > 0;
                }
                Err(frame) => {
                    self.jammed = true;
                    port.send(frame);
                }
            }
        }
        true
    }

    /// The next frame for the switch; the inner `None` is one that came to nothing.
    fn next_in(&mut self, now: Time) -> Option<Option<NicFrame>> {
        let (_, cable) = &mut self.plug;
        if let Some(frame) = cable.poll_transmit(now) {
            return Some(Some(frame));
        }
        if self.reopen.is_some() {
            return None;
        }
        let mut buf = match self.spare.take() {
            Some(buf) => buf,
            None => self.pool.get(FRAME_BUF_SIZE),
        };
        match self.backend.recv(&mut buf) {
            Ok(Received::Frame(at)) => {
                buf.truncate(at.end);
                buf.advance(at.start);
                if let Some(trouble) = &mut self.trouble {
                    trouble.heard = true;
                }
                add(&self.counts.in_packets, 1);
                add(&self.counts.in_bytes, buf.len());
                Some(cable.transmit(now, Frame::from_buf(buf), &()))
            }
            Ok(Received::Refused) => {
                self.spare = Some(buf);
                add(&self.counts.in_refused, 1);
                Some(None)
            }
            Ok(Received::Nothing) => {
                self.spare = Some(buf);
                if std::mem::take(&mut self.failed)
                    && let Err(trouble) = self.backend.poll_error()
                {
                    self.told(now, &trouble);
                }
                None
            }
            Err(trouble) => {
                self.spare = Some(buf);
                self.failed = false;
                self.told(now, &trouble);
                None
            }
        }
    }

    /// From the switch to the outside.
    fn take_out(&mut self, now: Time) -> bool {
        for taken in 0..BATCH {
            if self.outgoing.len == 0 && !self.next_out(now) {
                return taken > 0;
            }
            let out = &mut self.outgoing;
            let Some(bytes) = out.buf.get_mut(..out.len).filter(|_| out.len > 0) else {
                // Lost or late.
                continue;
            };
            if self.reopen.is_some() {
                self.lose(1);
                continue;
            }
            match self.backend.send(bytes) {
                Ok(Sent::Done) => {
                    add(&self.counts.out_packets, 1);
                    add(&self.counts.out_bytes, self.outgoing.len - HEADROOM);
                    self.outgoing.len = 0;
                    self.outgoing.jammed = false;
                }
                Ok(Sent::Full) if now < self.outgoing.until => return taken > 0,
                Ok(Sent::Full) => {
                    self.outgoing.jammed = true;
                    self.lose(0);
                }
                Ok(Sent::Lost) => self.lose(0),
                Err(trouble) => {
                    self.note(now, &trouble, 0);
                    self.lose(1);
                }
            }
        }
        true
    }

    /// The outgoing frame is lost; `told` says whether to trouble.
    fn lose(&mut self, told: u64) {
        add(&self.counts.out_dropped, 1);
        self.outgoing.len = 0;
        if let Some(trouble) = &mut self.trouble {
            trouble.lost += told;
        }
    }

    /// Makes the next frame bytes, if it has not come to nothing. False if there is none.
    fn next_out(&mut self, now: Time) -> bool {
        let (port, cable) = &mut self.plug;
        let frame = match cable.poll_receive(now) {
            Some(frame) => Some(frame),
            None => match port.recv() {
                Some(frame) => cable.receive(now, frame, &()),
                None => return false,
            },
        };
        let Some(frame) = frame else { return true };
        let out = &mut self.outgoing;
        let len = HEADROOM + frame.len_on_wire();
        if out.buf.len() < len {
            out.buf.resize(len, 0);
        }
        let room = out.buf.get_mut(HEADROOM..len).unwrap_or_default();
        match frame.write_to(room) {
            Ok(_) => {
                out.len = len;
                out.until = if out.jammed { now } else { now + PATIENCE };
            }
            // The guest that sent it has taken its memory back.
            Err(_) => add(&self.counts.out_dropped, 1),
        }
        true
    }

    fn rest(&mut self, now: Time) {
        if self.held.is_some() {
            // The receiver is busy; nobody says when it has made room.
            std::thread::yield_now();
            return;
        }
        let waiting = self.outgoing.len > 0;
        let (port, cable) = &self.plug;
        let heard = self.trouble.as_ref().filter(|trouble| trouble.heard);
        let calm = heard.map(|trouble| trouble.last + CALM);
        let due = [
            cable.poll_timeout(),
            self.reopen,
            calm.filter(|_| self.reopen.is_none()),
            waiting.then_some(self.outgoing.until),
        ];
        let due = due.into_iter().flatten().min();
        if due.is_some_and(|due| due <= now) {
            return;
        }
        let mut events = PollFlags::IN;
        if waiting && self.backend.is_writable_with_room() {
            events |= PollFlags::OUT;
        }
        let fd: Option<BorrowedFd<'_>> = self.backend.fd().filter(|_| self.reopen.is_none());
        let seen = self.bell.sleep(
            fd.map(|fd| (fd, events)),
            due.map(|due| due.since(now)),
            || {
                (!waiting && port.pending() > 0)
                    || cable.is_stale()
                    || self.stop.load(Ordering::Acquire)
            },
        );
        let errors = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        self.failed = seen.intersects(errors);
    }
}
