//! The event queue: every timer and every other event of the world, in the order of simulated time, driven by one task.
//! An event is only a function to call. madsim's own timers cannot be cancelled and its tasks leave a weak pointer
//! behind forever, so a world that created one of either per message would grow without bound.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use madsim::time::TimeHandle;

/// The function of an event; its argument is the time at which the event was due, in nanoseconds.
type Action = Box<dyn FnOnce(u64) + Send>;

/// What happens when a queue entry is due.
enum Fire {
    /// Wakes a timer, if it still exists.
    Timer { slot: usize, generation: u64 },
    /// Calls a function.
    Call(Action),
}

struct Entry {
    at_ns: u64,
    seq: u64,
    fire: Fire,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        (self.at_ns, self.seq) == (other.at_ns, other.seq)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at_ns, self.seq).cmp(&(other.at_ns, other.seq))
    }
}

struct Slot {
    generation: u64,
    waker: Option<Waker>,
}

#[derive(Default)]
struct State {
    queue: BinaryHeap<Reverse<Entry>>,
    seq: u64,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// The earliest madsim timer that will wake the pump.
    armed_ns: Option<u64>,
    pump: Option<Waker>,
}

/// The event queue.
pub(super) struct EventQueue {
    time: TimeHandle,
    state: Mutex<State>,
}

impl EventQueue {
    pub(super) fn new(time: TimeHandle) -> EventQueue {
        EventQueue { time, state: Mutex::new(State::default()) }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.time.elapsed().as_nanos() as u64
    }

    /// Returns how many entries are queued, including cancelled timers.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.state.lock().unwrap().queue.len()
    }

    /// Calls `action` at `at_ns`, after everything that was already due then.
    pub(super) fn push(&self, at_ns: u64, action: impl FnOnce(u64) + Send + 'static) {
        let fire = Fire::Call(Box::new(action));
        let mut state = self.state.lock().unwrap();
        self.push_locked(&mut state, at_ns, fire);
    }

    fn push_locked(&self, state: &mut State, at_ns: u64, fire: Fire) {
        state.seq += 1;
        let seq = state.seq;
        state.queue.push(Reverse(Entry { at_ns, seq, fire }));
        self.arm(state, at_ns);
    }

    /// Makes sure that the pump runs at `at_ns` or earlier.
    fn arm(&self, state: &mut State, at_ns: u64) {
        if state.armed_ns.is_some_and(|armed| armed <= at_ns) {
            return;
        }
        let Some(waker) = &state.pump else { return };
        state.armed_ns = Some(at_ns);
        let mut sleep = self.time.sleep(std::time::Duration::ZERO);
        // `sleep` waits at least a millisecond; `reset` does not.
        let now = self.time.now_instant();
        let wait = at_ns.saturating_sub(self.now_ns());
        let mut sleep = Pin::new(&mut sleep);
        sleep.as_mut().reset(now + std::time::Duration::from_nanos(wait));
        let mut cx = Context::from_waker(waker);
        if sleep.poll(&mut cx).is_ready() {
            waker.wake_by_ref();
        }
    }

    /// Returns the next entry that is due, or arms the pump for the first one that is not.
    fn next_due(&self, waker: &Waker) -> Option<(u64, Due)> {
        let mut state = self.state.lock().unwrap();
        if state.pump.is_none() {
            state.pump = Some(waker.clone());
        }
        let now_ns = self.now_ns();
        if state.armed_ns.is_some_and(|armed| armed <= now_ns) {
            state.armed_ns = None;
        }
        loop {
            let at_ns = state.queue.peek().map(|Reverse(entry)| entry.at_ns)?;
            if at_ns > now_ns {
                self.arm(&mut state, at_ns);
                return None;
            }
            let Reverse(entry) = state.queue.pop().expect("it was just seen");
            match entry.fire {
                Fire::Call(action) => return Some((at_ns, Due::Call(action))),
                Fire::Timer { slot, generation } => {
                    let place = &mut state.slots[slot];
                    if place.generation == generation
                        && let Some(waker) = place.waker.take()
                    {
                        return Some((at_ns, Due::Wake(waker)));
                    }
                }
            }
        }
    }

    fn add_timer(&self, at_ns: u64, waker: &Waker) -> (usize, u64) {
        let mut state = self.state.lock().unwrap();
        let slot = match state.free.pop() {
            Some(slot) => slot,
            None => {
                state.slots.push(Slot { generation: 0, waker: None });
                state.slots.len() - 1
            }
        };
        let place = &mut state.slots[slot];
        place.generation += 1;
        place.waker = Some(waker.clone());
        let generation = place.generation;
        self.push_locked(&mut state, at_ns, Fire::Timer { slot, generation });
        (slot, generation)
    }

    fn update_timer(&self, slot: usize, waker: &Waker) {
        let mut state = self.state.lock().unwrap();
        match &mut state.slots[slot].waker {
            Some(old) if old.will_wake(waker) => {}
            place => *place = Some(waker.clone()),
        }
    }

    fn free_timer(&self, slot: usize) {
        let mut state = self.state.lock().unwrap();
        let place = &mut state.slots[slot];
        place.generation += 1;
        place.waker = None;
        state.free.push(slot);
    }
}

enum Due {
    Wake(Waker),
    Call(Action),
}

/// Drives the queue; the only task that the queue needs.
pub(super) struct Pump(pub(super) Arc<EventQueue>);

impl Future for Pump {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some((at_ns, due)) = self.0.next_due(cx.waker()) {
            match due {
                Due::Wake(waker) => waker.wake(),
                Due::Call(action) => action(at_ns),
            }
        }
        Poll::Pending
    }
}

/// Completes at a point in true time. Dropping it cancels it.
pub(super) struct Timer {
    queue: Arc<EventQueue>,
    at_ns: u64,
    slot: Option<(usize, u64)>,
}

impl Timer {
    pub(super) fn new(queue: Arc<EventQueue>, at_ns: u64) -> Timer {
        Timer { queue, at_ns, slot: None }
    }
}

impl Future for Timer {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.queue.now_ns() >= self.at_ns {
            return Poll::Ready(());
        }
        match self.slot {
            Some((slot, _)) => self.queue.update_timer(slot, cx.waker()),
            None => {
                let slot = self.queue.add_timer(self.at_ns, cx.waker());
                self.slot = Some(slot);
            }
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((slot, _)) = self.slot {
            self.queue.free_timer(slot);
        }
    }
}
