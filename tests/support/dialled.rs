//! Channels to a worker by TLS: the test says with which keys.
#![allow(dead_code, reason = "every test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails like the test itself"
)]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::codegen::{Service, http::Uri};
use tonic::transport::{Channel, Endpoint};

/// A channel with a connection of its own, made with its first call; the worker's certificate must be for `name`.
pub(crate) fn channel(address: &str, name: &'static str, keys: Arc<ClientConfig>) -> Channel {
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.connect_with_connector_lazy(Dialler {
        address: address.to_owned(),
        name,
        connector: keys.into(),
    })
}

/// Connects, and shakes hands.
pub(crate) async fn shaken(
    address: &str,
    name: &'static str,
    keys: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(keys).connect(name, stream).await
}

struct Dialler {
    address: String,
    name: &'static str,
    connector: TlsConnector,
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, name) = (self.address.clone(), self.name);
        let keys = Arc::clone(self.connector.config());
        Box::pin(async move { shaken(&address, name, keys).await.map(TokioIo::new) })
    }
}
