//! Requests on their way in: each has a size, a time and a part of one budget of bytes, so that half a message costs little and not
//! for long. Stands before a generated service, and notes at the connection what it is used for.
//!
//! When the budget is spent the oldest unfinished request goes: an honest one takes milliseconds.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

use super::places::{Connection, Use};
use crate::grpc::{CALL_LIMIT, status::Cut};

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// How long a request may take from its headers to its end; then it is refused. An honest caller sends all of it at once.
const WITHIN: Duration = Duration::from_secs(10);

/// Bytes of unfinished requests, of all callers together: sixteen of the largest, ten thousand usual ones. Beyond it the oldest
/// goes.
const BUDGET: usize = 16 * CALL_LIMIT;

/// A service whose requests are measured as they come in.
#[derive(Clone)]
pub(in super::super) struct Measured<S> {
    service: S,
    budget: Arc<Budget>,
}

impl<S> Measured<S> {
    /// Measures the requests of `service`.
    pub(in super::super) fn new(service: S) -> Self {
        Self {
            service,
            budget: Arc::new(Budget::of(BUDGET)),
        }
    }

    /// Measures the requests of another service at the same port: they share one budget.
    pub(super) fn beside<T>(&self, service: T) -> Measured<T> {
        Measured {
            service,
            budget: Arc::clone(&self.budget),
        }
    }
}

impl<S: NamedService> NamedService for Measured<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Measured<S>
where
    S: Service<http::Request<Body>, Response: Send, Error: Send, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let connection = request.extensions().get::<Connection>().cloned();
        let (come_in, comes_in) = tokio::sync::oneshot::channel::<()>();
        let request = request.map(|body| {
            Body::new(Incoming {
                body,
                received: 0,
                deadline: Box::pin(tokio::time::sleep(WITHIN)),
                account: self.budget.open(),
                _reads: connection.as_ref().map(Connection::reads),
                _come_in: come_in,
            })
        });
        let answering = self.service.call(request);
        Box::pin(async move {
            tokio::pin!(answering);
            // The body is dropped when it has been read: from then on the caller waits for us, and is not in the way.
            let come_in = async {
                let _ = comes_in.await;
                connection.as_ref().map(Connection::answers)
            };
            tokio::pin!(come_in);
            tokio::select! {
                biased;
                answer = &mut answering => answer,
                answers = &mut come_in => {
                    let answer = answering.await;
                    drop(answers);
                    answer
                }
            }
        })
    }
}

/// The body of a request that comes in.
struct Incoming {
    body: Body,
    received: usize,
    deadline: Pin<Box<Sleep>>,
    account: Account,
    _reads: Option<Use>,
    /// Dropped with the body, which tells that the request has come in.
    _come_in: tokio::sync::oneshot::Sender<()>,
}

impl Incoming {
    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Status> {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.received += bytes;
        if self.received > CALL_LIMIT + PREFIX {
            return Err(Cut::TooLarge.into());
        }
        self.account.add(bytes);
        Ok(frame)
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        if self.account.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Cut::Crowd);
        }
        self.deadline.as_mut().poll(cx).map(|()| Cut::TooSlow)
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.take(frame))),
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => self.poll_over(cx).map(|cut| Some(Err(cut.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The bytes that all unfinished requests hold together.
struct Budget {
    limit: usize,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    next: u64,
    held: usize,
    /// The open requests, the oldest first: their bytes, and the token that ends each.
    open: BTreeMap<u64, (usize, CancellationToken)>,
}

/// One request's part of the budget, which is given back when this is dropped.
struct Account {
    budget: Arc<Budget>,
    number: u64,
    /// Fires when the request has to go.
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Budget {
    fn of(limit: usize) -> Self {
        Self {
            limit,
            books: Mutex::default(),
        }
    }

    fn open(self: &Arc<Self>) -> Account {
        let closed = CancellationToken::new();
        let mut books = self.books();
        let number = books.next;
        books.next += 1;
        books.open.insert(number, (0, closed.clone()));
        Account {
            budget: Arc::clone(self),
            number,
            closed: Box::pin(closed.cancelled_owned()),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn close(&mut self, number: u64) -> Option<CancellationToken> {
        let (bytes, closed) = self.open.remove(&number)?;
        self.held -= bytes;
        Some(closed)
    }
}

impl Account {
    fn add(&self, bytes: usize) {
        let mut books = self.budget.books();
        let Some((held, _)) = books.open.get_mut(&self.number) else {
            return;
        };
        *held += bytes;
        books.held += bytes;
        while books.held > self.budget.limit
            && let Some((&oldest, _)) = books.open.first_key_value()
        {
            if let Some(closed) = books.close(oldest) {
                closed.cancel();
            }
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.books().close(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_closed(account: &mut Account) -> bool {
        account.closed.as_mut().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_unfinished_request_goes_when_the_budget_is_spent() {
        let budget = Arc::new(Budget::of(100));
        let mut accounts: Vec<_> = (0..3).map(|_| budget.open()).collect();
        for account in &accounts {
            account.add(33);
        }

        accounts[2].add(1);
        assert!(!is_closed(&mut accounts[0]), "spent to the last byte");
        accounts[2].add(1);

        let closed: Vec<_> = accounts.iter_mut().map(is_closed).collect();
        assert_eq!(closed, [true, false, false]);
        assert_eq!(budget.books().held, 68);
    }

    #[test]
    fn what_is_finished_holds_nothing_and_what_is_closed_counts_no_more() {
        let budget = Arc::new(Budget::of(10));
        let mut first = budget.open();
        first.add(11);
        assert!(is_closed(&mut first), "it alone is over the budget");

        first.add(1_000);
        let second = budget.open();
        second.add(10);
        drop((first, second));

        assert_eq!(budget.books().held, 0);
        assert!(budget.books().open.is_empty());
    }
}
