//! A thread that lets learned addresses grow old.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

/// An address is forgotten in the second period in which it has not sent: after 300 s at the latest, as Linux' bridge does.
pub const PERIOD: Duration = Duration::from_secs(150);

/// The thread; ended when dropped.
pub struct Ageing {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ageing {
    /// Calls `age` after each `period`.
    pub fn start(age: impl Fn() + Send + 'static, period: Duration) -> Result<Ageing> {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new()
            .name("ageing".into())
            .spawn(move || {
                while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                    age();
                }
            })
            .context("ageing thread")?;
        Ok(Ageing {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Ageing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only calls what it was given; a panic there has been printed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocinante_wire::MacAddr;
    use rocinante_wire::buf::BufPool;
    use rocinante_wire::frame::{Frame, NoPayload};
    use rocinante_wire::switch::Links;
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_silent_station_is_forgotten_and_the_thread_ends() {
        let links: Arc<Links<NoPayload>> = Arc::new(Links::new());
        let switch = links.get("link0");
        let ports = ["a", "b", "c"].map(|name| switch.add_port(name, Arc::new(|| {})));
        let mac = |n| MacAddr::new(2, 0, 0, 0, 0, n);
        let pool = BufPool::for_frames(4);
        let send = |from: u8, to: u8| {
            let mut bytes = [0; 60];
            bytes[..6].copy_from_slice(&mac(to).octets());
            bytes[6..12].copy_from_slice(&mac(from).octets());
            ports[usize::from(from)].send(Frame::from_slice(&bytes, &pool));
        };
        send(1, 0);
        send(0, 1);
        assert_eq!(ports.each_ref().map(|port| port.pending()), [1, 1, 1]);
        // Once known, `b` alone gets what is for it; forgotten, all do.
        let (tell, told) = sync_channel(0);
        let aged = Arc::clone(&links);
        let ageing = Ageing::start(
            move || {
                aged.age();
                let _ = tell.send(());
            },
            Duration::from_millis(1),
        );
        told.recv_timeout(SOON).unwrap();
        told.recv_timeout(SOON).unwrap();
        send(0, 1);
        assert_eq!(ports.each_ref().map(|port| port.pending()), [1, 2, 2]);
        drop(told);
        drop(ageing);
        assert_eq!(Arc::strong_count(&links), 1);
    }
}
