//! The models of `cargo loom`. Each runs a protocol through every interleaving and every value that a weakly ordered
//! machine may observe: first the protocol as the store uses it, then with a planted fault, which the model must
//! detect.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use loom::thread;

use super::{Budget, Ceiling, Lease, Orders, Pending, Sound};

/// Orderings that guarantee nothing.
struct Planted;

impl Orders for Planted {
    const PUBLISH: Ordering = Ordering::Relaxed;
    const OBSERVE: Ordering = Ordering::Relaxed;
    const BOTH: Ordering = Ordering::Relaxed;
}

/// Checks that the model passes with the sound protocol and fails with the planted fault.
fn holds_and_can_fail(sound: impl Fn() + Send + Sync + 'static, planted: impl Fn() + Send + Sync + 'static) {
    loom::model(sound);
    let caught = catch_unwind(AssertUnwindSafe(|| loom::model(planted)));
    assert!(caught.is_err(), "the model does not detect the planted fault");
}

/// The lease of term 1 ends at the first of `ends` and that of term 2 at the second. A reader looks at `now` while the
/// writer moves from one to the other; the result must be true.
fn lease<O: Orders + Send + Sync + 'static>(ends: [u64; 2], now: u64, revoked: bool) {
    let lease = Arc::new(Lease::<O>::none());
    lease.set(1, ends[0]);
    let reader = {
        let lease = lease.clone();
        thread::spawn(move || {
            if let Some(term) = lease.valid(now) {
                let end = ends[term as usize - 1];
                assert!(now < end, "at {now} a reader got term {term}, whose lease ended at {end}");
            }
        })
    };
    if revoked {
        lease.revoke();
    }
    lease.set(2, ends[1]);
    reader.join().unwrap();
    assert_eq!(lease.valid(now), (now < ends[1]).then_some(2));
}

#[test]
fn loom_lease_of_an_old_term_with_the_end_of_a_new_one() {
    for revoked in [false, true] {
        holds_and_can_fail(
            move || lease::<Sound>([10, 20], 15, revoked),
            move || lease::<Planted>([10, 20], 15, revoked),
        );
    }
}

#[test]
fn loom_lease_of_a_new_term_with_the_end_of_an_old_one() {
    for revoked in [false, true] {
        holds_and_can_fail(
            move || lease::<Sound>([20, 10], 15, revoked),
            move || lease::<Planted>([20, 10], 15, revoked),
        );
    }
}

/// A message is in flight. A sender writes news and raises while the handler begins: either a second message is sent,
/// or this handling sees the news. A channel orders the data that comes with a message; a reason that finds one in
/// flight has nothing else.
fn pending<O: Orders + Send + Sync + 'static>() {
    let pending = Arc::new(Pending::<O>::new());
    let news = Arc::new(AtomicU64::new(0));
    assert!(pending.raise(), "the first message");
    let sender = {
        let (pending, news) = (pending.clone(), news.clone());
        thread::spawn(move || {
            news.store(1, Ordering::Relaxed);
            let sent = pending.raise();
            // While one is in flight, further reasons must not send another.
            assert!(!sent || !pending.raise(), "two messages at one time");
            sent
        })
    };
    pending.begin();
    let seen = news.load(Ordering::Relaxed);
    let sent = sender.join().unwrap();
    assert!(sent || seen == 1, "no handling saw the reason that was raised");
}

#[test]
fn loom_pending() {
    holds_and_can_fail(pending::<Sound>, pending::<Planted>);
}

/// A reader at 5 and a writer: the reader learns of the writer, or the writer of the reader. The planted fault looks
/// before it raises: exchanges read the newest value, so a weaker ordering alone cannot be seen here.
fn ceiling(raise: impl Fn(&Ceiling) -> bool + Send + Sync + Copy + 'static) {
    let ceiling = Arc::new(Ceiling::<Sound>::new());
    let reader = {
        let ceiling = ceiling.clone();
        thread::spawn(move || raise(&ceiling))
    };
    let above = ceiling.enter(1);
    let looks = reader.join().unwrap();
    assert!(looks || above >= 5, "the reader passed a writer that commits at or below its timestamp");
}

#[test]
fn loom_ceiling() {
    let looks_first = |ceiling: &Ceiling| {
        let looks = ceiling.is_guarded();
        ceiling.raise(5);
        looks
    };
    holds_and_can_fail(|| ceiling(|ceiling| ceiling.raise(5)), move || ceiling(looks_first));
}

/// Two threads take from a budget of one. They must never hold it at the same time.
fn budget(take: impl Fn(&Budget) -> Option<super::Share> + Send + Sync + Copy + 'static) {
    let budget = Budget::new(1);
    let holders = Arc::new(AtomicUsize::new(0));
    let work = move |budget: Budget, holders: Arc<AtomicUsize>| {
        if let Some(share) = take(&budget) {
            assert_eq!(holders.fetch_add(1, Ordering::Relaxed), 0, "two hold a budget of one");
            holders.fetch_sub(1, Ordering::Relaxed);
            drop(share);
        }
    };
    let other = {
        let (budget, holders) = (budget.clone(), holders.clone());
        thread::spawn(move || work(budget, holders))
    };
    work(budget.clone(), holders);
    other.join().unwrap();
    assert_eq!(budget.taken(), 0, "everything was given back");
}

#[test]
fn loom_budget() {
    holds_and_can_fail(|| budget(|budget| budget.take(1).ok()), || budget(|budget| budget.take_hastily(1).ok()));
}
