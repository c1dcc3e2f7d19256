//! Asks the doorkeeper about every call, before a byte of its body is read. Stands before everything that costs something.

use std::{
    future::ready,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{
    Status,
    body::Body,
    codegen::{
        BoxFuture, Service,
        http::{self, header::AUTHORIZATION},
    },
    server::NamedService,
};

use super::{Doorkeeper, places::Connection};

/// A service whose callers are checked.
#[derive(Clone)]
pub(super) struct Checked<S> {
    service: S,
    doorkeeper: Arc<Doorkeeper>,
}

impl<S> Checked<S> {
    /// Lets a caller's request through to `service` if `doorkeeper` lets the caller in.
    pub(super) fn new(service: S, doorkeeper: Arc<Doorkeeper>) -> Self {
        Self {
            service,
            doorkeeper,
        }
    }
}

impl<S: NamedService> NamedService for Checked<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Checked<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let caller = request.extensions().get::<Connection>();
        let caller = caller.map(Connection::caller).unwrap_or_default();
        let method = request.uri().path();
        let authorization = request.headers().get(AUTHORIZATION);
        match self.doorkeeper.judge(method, authorization, &caller) {
            Ok(()) => Box::pin(self.service.call(request)),
            Err(stranger) => Box::pin(ready(Ok(Status::from(stranger).into_http()))),
        }
    }
}
