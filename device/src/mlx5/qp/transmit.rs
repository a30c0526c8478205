//! The next frame of a QP: responses first, then requests.

use log::debug;
use rocinante_wire::frame::Frame;
use rocinante_wire::transport::{Outcome, QpEvent, RemoteFault, Source, WcError};

use super::error::Cause;
use super::host::{ReceiveHost, SendHost};
use super::send::pump;
use super::{Engine, Qp, ServiceType, State, datagram, error};
use crate::mlx5::core::Core;
use crate::mlx5::eq::EventType;
use crate::mlx5::payload::{GatherFault, Incoming, Memory};

/// Sends the next frame; false if there is nothing to send now. Bounded: a QP in trouble is
/// brought to its error state, not tried again.
pub fn poll(qp: &mut Qp, core: &mut Core) -> bool {
    if poll_response(qp, core) {
        return true;
    }
    match qp.state {
        State::Rts => {}
        // Work posted in an error state is flushed.
        State::SqErr => {
            error::flush_send(qp, core);
            return false;
        }
        _ => return false,
    }
    if qp.attr.service.is_datagram() {
        return datagram::poll(qp, core);
    }
    if has_more(qp) {
        pump(qp, &core.mem);
    }
    loop {
        let outcome = poll_request(qp, core);
        if outcome == Polled::Sent || qp.state != State::Rts {
            return outcome == Polled::Sent;
        }
        if has_more(qp) {
            // Completions made room for more work requests.
            pump(qp, &core.mem);
        } else if outcome == Polled::Nothing {
            return false;
        }
    }
}

/// What became of asking a requester for its next packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Polled {
    /// It had none.
    Nothing,
    /// It is on its way.
    Sent,
    /// It went nowhere. A UC work request completes when its last packet is behind it, wherever
    /// that went.
    Lost,
}

/// Work waits in the ring and the transport has room for it.
#[inline]
fn has_more(qp: &Qp) -> bool {
    let room = match &qp.engine {
        Engine::Reliable { requester, .. } => requester.can_post(),
        Engine::Unreliable { requester, .. } => requester.can_post(),
        Engine::Datagram => false,
    };
    room && qp.send.ring.as_ref().is_some_and(|ring| ring.pending() > 0)
}

/// Sends the next response; false if none is owed.
fn poll_response(qp: &mut Qp, core: &mut Core) -> bool {
    loop {
        let Qp {
            attr,
            engine,
            path,
            receive,
            ..
        } = &mut *qp;
        let Engine::Reliable { responder, .. } = engine else {
            return false;
        };
        let Some(path) = path else { return false };
        let Some(response) = responder.poll_transmit() else {
            return false;
        };
        let Core {
            mem,
            mkeys,
            buffers,
            out,
            ..
        } = &mut *core;
        let frame = out.begin();
        let layout = path.template.write(response.packet, frame.head_mut());
        let mut who = attr.accessor();
        if attr.service == ServiceType::Xrc {
            // The PD that counts was the SRQ's, checked with the request.
            who.pd = None;
        }
        let memory = Memory {
            map: mem,
            mkeys,
            who,
        };
        let gathered = match response.source {
            Source::None => Ok(()),
            Source::Remote { rkey, va, len } => memory.gather_remote(rkey, va, len, frame, buffers),
        };
        match gathered {
            Ok(()) => {
                frame.set_roce(layout);
                core.send_begun();
                return true;
            }
            Err(fault) => {
                out.drop_begun();
                debug!(target: "mlx5::qp", "QP {:#x}: READ source lost: {fault:?}", attr.qpn);
                let fault = match fault {
                    GatherFault::Mkey(_) => RemoteFault::Access,
                    GatherFault::Dma(_) => RemoteFault::Operational,
                };
                let none = Frame::from_slice(&[], &core.buffers);
                let incoming = Incoming::new(&none, 0..0);
                let mut host = ReceiveHost {
                    core,
                    attr,
                    receive,
                    incoming: &incoming,
                    xrc_srqn: None,
                    remote_qpn: 0,
                    in_rtr: false,
                    overrun: false,
                };
                // A NAK, if one is due, comes with the next poll.
                let outcome = responder.read_failed(fault, &mut host);
                after_receive(qp, core, outcome, false);
            }
        }
    }
}

/// Sends the next request packet.
fn poll_request(qp: &mut Qp, core: &mut Core) -> Polled {
    let Qp {
        attr,
        send,
        engine,
        path,
        ..
    } = &mut *qp;
    let now = core.now;
    // A RC work request completes when the peer has its bytes, a UC one when they are sent:
    // only the former may still be read by the receiver.
    let refer = matches!(engine, Engine::Reliable { .. });
    let mut host = SendHost::new(core, attr, send, None);
    let packet = match engine {
        Engine::Reliable { requester, .. } => requester.poll_transmit(now, &mut host),
        Engine::Unreliable { requester, .. } => requester.poll_transmit(&mut host),
        Engine::Datagram => None,
    };
    let mut polled = match packet {
        Some(_) => Polled::Lost,
        None => Polled::Nothing,
    };
    // Without a path (its GID was deleted before the QP connected) packets go nowhere, and the
    // transport's timer finds out.
    if let (Some(tx), Some(path)) = (&packet, path)
        && let Some(entry) = host.send.entry(tx.cookie)
    {
        let Core {
            mem,
            mkeys,
            buffers,
            out,
            ..
        } = &mut *host.core;
        let frame = out.begin();
        let layout = path.template.write(tx.packet, frame.head_mut());
        let memory = Memory {
            map: mem,
            mkeys,
            who: host.attr.accessor(),
        };
        let range = u64::from(tx.payload.start)..u64::from(tx.payload.end);
        let gathered = if refer {
            memory.gather_message(&entry.data, range, frame, buffers)
        } else {
            memory.copy_range(&entry.data, range, frame, buffers)
        };
        match gathered {
            Ok(()) => {
                frame.set_roce(layout);
                host.core.send_begun();
                polled = Polled::Sent;
            }
            Err(fault) => {
                debug!(target: "mlx5::qp", "QP {:#x}: send not gathered: {fault:?}", host.attr.qpn);
                out.drop_begun();
                let (cookie, err) = (tx.cookie, WcError::LocalProtection);
                match engine {
                    Engine::Reliable { requester, .. } => {
                        requester.fail_local(cookie, err, &mut host);
                    }
                    Engine::Unreliable { requester, .. } => {
                        requester.fail_local(cookie, err, &mut host);
                    }
                    Engine::Datagram => {}
                }
            }
        }
    }
    let (failed, overrun) = (host.failed, host.overrun);
    after_send(qp, core, failed, overrun);
    polled
}

/// What the QP does after its requester reported.
pub fn after_send(qp: &mut Qp, core: &mut Core, failed: bool, overrun: bool) {
    if overrun {
        error::to_error(qp, core, Some(EventType::WqCatastrophic), Cause::Local);
    } else if failed {
        error::to_error(qp, core, None, Cause::Local);
    }
}

/// What the QP does after its responder reported.
pub fn after_receive(qp: &mut Qp, core: &mut Core, outcome: Outcome, overrun: bool) {
    if let Outcome::Fatal { event } = outcome {
        let event = match event {
            QpEvent::None => None,
            QpEvent::InvalidRequest => Some(EventType::WqInvalidRequest),
            QpEvent::Access => Some(EventType::WqAccessError),
            QpEvent::Catas => Some(EventType::WqCatastrophic),
        };
        error::to_error(qp, core, event, Cause::Responder);
    } else if overrun {
        error::to_error(qp, core, Some(EventType::WqCatastrophic), Cause::Local);
    }
}
