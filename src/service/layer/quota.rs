//! The memory quota of the whole node's responses: those being prepared, and those not yet received by clients.
//!
//! ```text
//!   a page grows -> Reservation (refused when the quota is used up) -> encoded -> frames, counted until they are sent
//! ```
//! One client may ask for thousands of responses of the largest size and read none. Short responses are not counted:
//! there are as many of them as requests, which are bounded elsewhere.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use prometheus::IntGauge;
use tonic::body::Body;

use crate::types::limits::ANSWER_BYTES_MAX;
use crate::types::{Error, Result};

/// Responses of at least this size are charged to the quota; reservations grow in steps of this size.
const STEP: usize = 64 << 10;

/// The memory quota of responses. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryQuota(IntGauge);

/// Marks a response whose frames are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Large;

impl MemoryQuota {
    /// Creates the quota. It counts in `gauge`, which must not be changed elsewhere.
    pub fn new(gauge: IntGauge) -> MemoryQuota {
        MemoryQuota(gauge)
    }

    /// Returns how many bytes are reserved.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> i64 {
        self.0.get()
    }

    /// Returns an empty reservation, for a response that is being prepared.
    pub(crate) fn begin(&self) -> Reservation {
        Reservation { quota: self.0.clone(), bytes: 0 }
    }
}

/// Returns whether a response of `bytes` bytes is counted.
pub(crate) fn counts(bytes: usize) -> bool {
    bytes >= STEP
}

/// A part of the quota. Returned when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    quota: IntGauge,
    bytes: usize,
}

impl Reservation {
    /// Grows the reservation to a response of `bytes` bytes in total.
    ///
    /// # Errors
    /// Returns [`Error::Busy`] if the quota is used up.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<()> {
        if !counts(bytes) || bytes <= self.bytes {
            return Ok(());
        }
        // Grow in proportion to the size, so that a large response does not need a thousand steps.
        let more = (bytes - self.bytes).max(STEP).max(self.bytes / 4);
        self.add(more);
        let total = self.quota.get().max(0) as u64;
        if total > ANSWER_BYTES_MAX {
            return Err(Error::Busy(format!(
                "responses in progress use {total} bytes of memory, over the limit of {ANSWER_BYTES_MAX}"
            )));
        }
        Ok(())
    }

    fn add(&mut self, bytes: usize) {
        self.quota.add(bytes as i64);
        self.bytes += bytes;
    }

    /// Returns what the response needed beyond its final `bytes` while it was prepared.
    ///
    /// # Errors
    /// Same as [`Reservation::grow_to`].
    pub(crate) fn shrink_to(&mut self, bytes: usize) -> Result<()> {
        let kept = if counts(bytes) { bytes } else { 0 };
        if let Some(more) = self.bytes.checked_sub(kept) {
            self.quota.sub(more as i64);
            self.bytes = kept;
        }
        self.grow_to(bytes)
    }

    /// Returns `bytes` with the reservation attached: it is held until the last part of them is dropped.
    pub(crate) fn attach(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Owner { bytes, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.quota.sub(self.bytes as i64);
    }
}

/// Bytes and their reservation.
struct Owner<B> {
    bytes: B,
    _reservation: Reservation,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Owner<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Counts the large frames of the response if it is marked with [`Large`], or if `always`.
pub(crate) fn counted(quota: &MemoryQuota, always: bool, response: Response<Body>) -> Response<Body> {
    if !always && response.extensions().get::<Large>().is_none() {
        return response;
    }
    let quota = quota.clone();
    response.map(|inner| Body::new(Counted { inner, quota }))
}

/// A body whose large frames are reserved until they are sent.
struct Counted {
    inner: Body,
    quota: MemoryQuota,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = &mut *self;
        let frame = std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx));
        Poll::Ready(frame.map(|result| {
            result.map(|frame| {
                frame.map_data(|data| {
                    if !counts(data.len()) {
                        return data;
                    }
                    let mut reservation = this.quota.begin();
                    reservation.add(data.len());
                    reservation.attach(data)
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the reserved bytes are those in use, and stay within the quota. Method: by hand.

    use super::*;
    use futures::FutureExt as _;
    use http_body_util::{BodyExt as _, Full};

    fn quota() -> MemoryQuota {
        MemoryQuota::new(IntGauge::new("bytes", "bytes").unwrap())
    }

    #[test]
    fn an_answer_is_reserved_until_its_last_part_is_gone() {
        let quota = quota();
        let mut reservation = quota.begin();
        reservation.grow_to(STEP - 1).unwrap();
        assert_eq!(quota.0.get(), 0, "short responses are not counted");
        reservation.grow_to(3 * STEP).unwrap();
        reservation.grow_to(2 * STEP).unwrap();
        assert_eq!(quota.0.get(), 3 * STEP as i64);
        let mut whole = reservation.attach(vec![7; 100]);
        let part = whole.split_to(10);
        drop(whole);
        assert_eq!((part.len(), quota.0.get()), (10, 3 * STEP as i64));
        drop(part);
        assert_eq!(quota.0.get(), 0);
    }

    #[test]
    fn what_the_making_took_is_given_back() {
        let quota = quota();
        let mut reservation = quota.begin();
        reservation.grow_to(8 * STEP).unwrap();
        reservation.shrink_to(2 * STEP).unwrap();
        assert_eq!(quota.0.get(), 2 * STEP as i64);
        reservation.shrink_to(4 * STEP).unwrap();
        assert_eq!(quota.0.get(), 4 * STEP as i64);
        reservation.shrink_to(10).unwrap();
        assert_eq!(quota.0.get(), 0, "short responses are not counted");
    }

    #[test]
    fn what_has_no_room_is_refused_and_takes_none() {
        let quota = quota();
        let mut first = quota.begin();
        first.grow_to(ANSWER_BYTES_MAX as usize).unwrap();
        let mut second = quota.begin();
        second.grow_to(STEP - 1).expect("short responses always have room");
        assert!(matches!(second.grow_to(STEP), Err(Error::Busy(_))));
        drop(second);
        drop(first);
        quota.begin().grow_to(STEP).unwrap();
        assert_eq!(quota.0.get(), 0);
    }

    #[test]
    fn frames_that_nobody_has_taken_are_counted() {
        let quota = quota();
        let response = |bytes: usize| {
            let mut response = Response::new(Body::new(Full::new(Bytes::from(vec![1; bytes]))));
            response.extensions_mut().insert(Large);
            counted(&quota, false, response)
        };
        let mut body = response(2 * STEP).into_body();
        let frame = body.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap();
        drop(body);
        assert_eq!((frame.len(), quota.0.get()), (2 * STEP, 2 * STEP as i64));
        drop(frame);
        assert_eq!(quota.0.get(), 0);
        let small = response(STEP - 1).into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
        assert_eq!((small.len(), quota.0.get()), (STEP - 1, 0));
    }
}
