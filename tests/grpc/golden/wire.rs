//! Between client and server, where a connection would be: what goes by is written down.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use hyper::body::Frame;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Bytes, Service, http},
};

/// Passes calls on to a server.
#[derive(Clone)]
pub(super) struct Tap<S> {
    server: S,
    pub(super) seen: Seen,
}

/// What went by: the paths, and the bytes of each direction.
#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) paths: Arc<Mutex<Vec<String>>>,
    pub(super) requests: Arc<Mutex<Vec<u8>>>,
    pub(super) answers: Arc<Mutex<Vec<u8>>>,
}

impl<S> Tap<S> {
    pub(super) fn before(server: S) -> Self {
        Self {
            server,
            seen: Seen::default(),
        }
    }
}

impl<S> Service<http::Request<Body>> for Tap<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.server.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut paths = self.seen.paths.lock().unwrap();
        paths.push(request.uri().path().to_owned());
        let request = request.map(|body| tapped(body, &self.seen.requests));
        let answers = Arc::clone(&self.seen.answers);
        let answer = self.server.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| tapped(body, &answers))) })
    }
}

struct Tapped {
    body: Body,
    bytes: Arc<Mutex<Vec<u8>>>,
}

fn tapped(body: Body, bytes: &Arc<Mutex<Vec<u8>>>) -> Body {
    let bytes = Arc::clone(bytes);
    Body::new(Tapped { body, bytes })
}

impl hyper::body::Body for Tapped {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.bytes.lock().unwrap().extend_from_slice(data);
        }
        polled
    }
}
