//! What happens to a server's NICs, ports and captures, told to whoever subscribed. Knows who
//! listens and how much may wait for them, not what they do with it.
//!
//! Nothing is made or kept while nobody listens. A listener that is slow loses events, and is told
//! how many.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocinante_wire::switch::Wake;
use serde_json::Value;

/// Events that may wait for one listener.
pub const MAX_WAITING: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Such as `LINK_DOWN`.
    pub name: &'static str,
    /// What belongs to it.
    pub data: Value,
    /// When, since 1970-01-01 00:00 UTC.
    pub at: Duration,
}

/// Events of a server and who listens to them; clones are the same.
#[derive(Clone, Default)]
pub struct Events(Arc<Inner>);

#[derive(Default)]
struct Inner {
    wanted: AtomicBool,
    listeners: Mutex<Vec<Weak<Listener>>>,
}

/// What waits for one listener. Ends when dropped.
pub struct Subscription {
    listener: Arc<Listener>,
    events: Events,
}

struct Listener {
    waiting: Mutex<Waiting>,
    waker: Box<dyn Wake>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    lost: u64,
}

/// What a listener gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// An event.
    Event(Event),
    /// So many events that there was no room for.
    Lost(u64),
}

impl Events {
    /// Whether anybody listens.
    #[inline]
    pub fn wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed)
    }

    /// Tells all listeners of an event. `data` is only made if there are any.
    pub fn tell(&self, name: &'static str, data: impl FnOnce() -> Value) {
        if !self.wanted() {
            return;
        }
        let at = SystemTime::now();
        let event = Event {
            name,
            data: data(),
            at: at.duration_since(UNIX_EPOCH).unwrap_or_default(),
        };
        let listeners = lock(&self.0.listeners);
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.put(event.clone());
        }
    }

    /// Listens from now on. `waker` is called when there is something to fetch, from whatever
    /// thread it comes from: it has to be quick.
    pub fn subscribe(&self, waker: impl Wake + 'static) -> Subscription {
        let listener = Arc::new(Listener {
            waiting: Mutex::default(),
            waker: Box::new(waker),
        });
        let mut listeners = lock(&self.0.listeners);
        listeners.push(Arc::downgrade(&listener));
        self.0.wanted.store(true, Ordering::Relaxed);
        Subscription {
            listener,
            events: self.clone(),
        }
    }
}

impl Listener {
    fn put(&self, event: Event) {
        let mut waiting = lock(&self.waiting);
        if waiting.events.len() < MAX_WAITING && waiting.lost == 0 {
            waiting.events.push_back(event);
        } else {
            // Once something is lost, what follows waits until that has been told.
            waiting.lost += 1;
        }
        drop(waiting);
        self.waker.wake();
    }
}

impl Subscription {
    /// The next that happened.
    pub fn poll(&self) -> Option<Heard> {
        let mut waiting = lock(&self.listener.waiting);
        if let Some(event) = waiting.events.pop_front() {
            return Some(Heard::Event(event));
        }
        let lost = std::mem::take(&mut waiting.lost);
        (lost > 0).then_some(Heard::Lost(lost))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut listeners = lock(&self.events.0.listeners);
        let own = Arc::as_ptr(&self.listener);
        listeners.retain(|listener| listener.strong_count() > 0 && listener.as_ptr() != own);
        let wanted = !listeners.is_empty();
        self.events.0.wanted.store(wanted, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::AtomicUsize;

    fn numbers(subscription: &Subscription) -> Vec<Value> {
        std::iter::from_fn(|| subscription.poll())
            .map(|heard| match heard {
                Heard::Event(event) => event.data,
                Heard::Lost(count) => json!(format!("{count} lost")),
            })
            .collect()
    }

    #[test]
    fn events_reach_all_that_listen_and_are_not_made_for_nobody() {
        let events = Events::default();
        events.tell("A", || unreachable!());
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let one = events.subscribe(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        events.tell("A", || json!(1));
        let other = events.subscribe(|| {});
        events.tell("A", || json!(2));
        assert_eq!(numbers(&one), [1, 2]);
        assert_eq!(numbers(&other), [2]);
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        drop(one);
        assert!(events.wanted());
        drop(other);
        events.tell("A", || unreachable!());
    }

    #[test]
    fn who_is_slow_is_told_how_much_was_lost_where() {
        let events = Events::default();
        let slow = events.subscribe(|| {});
        for n in 0..MAX_WAITING + 7 {
            events.tell("A", || json!(n));
        }
        assert_eq!(slow.poll().map(|_| ()), Some(()));
        // Not before those that were lost.
        events.tell("A", || json!("late"));
        let heard = numbers(&slow);
        assert_eq!(heard.len(), MAX_WAITING);
        assert_eq!(heard.last(), Some(&json!("8 lost")));
        events.tell("A", || json!("next"));
        assert_eq!(numbers(&slow), ["next"]);
    }
}
