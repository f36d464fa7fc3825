//! Memory of answers, of the whole node: what is read for them, and what clients have not taken yet.
//!
//! ```text
//!   a page grows -> Held (refused when the node has no room) -> encoded -> frames, counted until the connection has sent them
//! ```
//! One client may ask for thousands of answers of the largest size and read none. Short answers are not counted: they are as many
//! as there are requests, which are bounded elsewhere.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use prometheus::IntGauge;
use tonic::body::Body;

use crate::types::limits::ANSWER_BYTES_MAX;
use crate::types::{Error, Result};

/// Bytes from which on an answer is counted, and by how many it grows in the books.
const STEP: usize = 64 << 10;

/// The books. Clones share them.
#[derive(Clone, Debug)]
pub struct Answers(IntGauge);

/// Marks a reply whose frames are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Large;

impl Answers {
    /// Counts in `gauge`, which nobody else changes.
    pub fn new(gauge: IntGauge) -> Answers {
        Answers(gauge)
    }

    /// Bytes in the books.
    #[cfg(test)]
    pub(super) fn held(&self) -> i64 {
        self.0.get()
    }

    /// Nothing yet, of an answer in the making.
    pub(super) fn begin(&self) -> Held {
        Held { books: self.0.clone(), bytes: 0 }
    }
}

/// Whether an answer of `bytes` is counted.
pub(super) fn counts(bytes: usize) -> bool {
    bytes >= STEP
}

/// A part of the node's room for answers; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    books: IntGauge,
    bytes: usize,
}

impl Held {
    /// Makes sure that an answer of `bytes` in all is in the books.
    ///
    /// # Errors
    /// [`Error::Busy`] when the node has no room for it.
    pub(super) fn cover(&mut self, bytes: usize) -> Result<()> {
        if !counts(bytes) || bytes <= self.bytes {
            return Ok(());
        }
        // In steps that grow with it, so that a large answer is not a thousand entries.
        let more = (bytes - self.bytes).max(STEP).max(self.bytes / 4);
        self.add(more);
        let total = self.books.get().max(0) as u64;
        if total > ANSWER_BYTES_MAX {
            return Err(Error::Busy(format!(
                "answers on their way hold {total} bytes of memory, over the limit of {ANSWER_BYTES_MAX}"
            )));
        }
        Ok(())
    }

    fn add(&mut self, bytes: usize) {
        self.books.add(bytes as i64);
        self.bytes += bytes;
    }

    /// The answer is done and has `bytes`: what its making took beyond that is given back.
    ///
    /// # Errors
    /// As [`Held::cover`].
    pub(super) fn settle(&mut self, bytes: usize) -> Result<()> {
        let kept = if counts(bytes) { bytes } else { 0 };
        if let Some(more) = self.bytes.checked_sub(kept) {
            self.books.sub(more as i64);
            self.bytes = kept;
        }
        self.cover(bytes)
    }

    /// `bytes`, in the books for as long as any part of them lives.
    pub(super) fn around(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Owner { bytes, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.books.sub(self.bytes as i64);
    }
}

/// Bytes and their entry in the books.
struct Owner<B> {
    bytes: B,
    _held: Held,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Owner<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// The response with its large frames counted, if it is marked (or `always`).
pub(super) fn counted(answers: &Answers, always: bool, response: Response<Body>) -> Response<Body> {
    if !always && response.extensions().get::<Large>().is_none() {
        return response;
    }
    let answers = answers.clone();
    response.map(|inner| Body::new(Counted { inner, answers }))
}

/// A body whose large frames are in the books until they are sent.
struct Counted {
    inner: Body,
    answers: Answers,
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
                    let mut held = this.answers.begin();
                    held.add(data.len());
                    held.around(data)
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
    //! Goal: what is in the books is what is held, and no more than there is room for. Method: by hand.

    use super::*;
    use futures::FutureExt as _;
    use http_body_util::{BodyExt as _, Full};

    fn answers() -> Answers {
        Answers::new(IntGauge::new("bytes", "bytes").unwrap())
    }

    #[test]
    fn an_answer_is_in_the_books_until_its_last_part_is_gone() {
        let answers = answers();
        let mut held = answers.begin();
        held.cover(STEP - 1).unwrap();
        assert_eq!(answers.0.get(), 0, "short answers are not counted");
        held.cover(3 * STEP).unwrap();
        held.cover(2 * STEP).unwrap();
        assert_eq!(answers.0.get(), 3 * STEP as i64);
        let mut whole = held.around(vec![7; 100]);
        let part = whole.split_to(10);
        drop(whole);
        assert_eq!((part.len(), answers.0.get()), (10, 3 * STEP as i64));
        drop(part);
        assert_eq!(answers.0.get(), 0);
    }

    #[test]
    fn what_the_making_took_is_given_back() {
        let answers = answers();
        let mut held = answers.begin();
        held.cover(8 * STEP).unwrap();
        held.settle(2 * STEP).unwrap();
        assert_eq!(answers.0.get(), 2 * STEP as i64);
        held.settle(4 * STEP).unwrap();
        assert_eq!(answers.0.get(), 4 * STEP as i64);
        held.settle(10).unwrap();
        assert_eq!(answers.0.get(), 0, "short answers are not counted");
    }

    #[test]
    fn what_has_no_room_is_refused_and_takes_none() {
        let answers = answers();
        let mut first = answers.begin();
        first.cover(ANSWER_BYTES_MAX as usize).unwrap();
        let mut second = answers.begin();
        second.cover(STEP - 1).expect("short ones always have room");
        assert!(matches!(second.cover(STEP), Err(Error::Busy(_))));
        drop(second);
        drop(first);
        answers.begin().cover(STEP).unwrap();
        assert_eq!(answers.0.get(), 0);
    }

    #[test]
    fn frames_that_nobody_has_taken_are_counted() {
        let answers = answers();
        let response = |bytes: usize| {
            let mut response = Response::new(Body::new(Full::new(Bytes::from(vec![1; bytes]))));
            response.extensions_mut().insert(Large);
            counted(&answers, false, response)
        };
        let mut body = response(2 * STEP).into_body();
        let frame = body.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap();
        drop(body);
        assert_eq!((frame.len(), answers.0.get()), (2 * STEP, 2 * STEP as i64));
        drop(frame);
        assert_eq!(answers.0.get(), 0);
        let small = response(STEP - 1).into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
        assert_eq!((small.len(), answers.0.get()), (STEP - 1, 0));
    }
}
