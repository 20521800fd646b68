//! The HTTP server of `--status-listen`. Whoever connects is a stranger: a few connections at a time, one request on
//! each, of a few kilobytes, within seconds. It ends with the job, or when it is dropped.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, server::conn::http1};
use hyper_util::rt::TokioIo;
use keyhaul_engine::plan::PlanError;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::address::ListenAddress;
use super::observed::Observed;
use super::{json, metrics};

/// More wait in the queue of the system.
const CONNECTIONS_MAX: usize = 16;
/// From the first byte to the last.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Request line and headers, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How often rates are noted.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// After an error that is none of the connection: no more files, no memory.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const PAGE: &str = include_str!("page.html");

/// A server that answers as long as it is held.
#[derive(Debug)]
pub(crate) struct StatusServer {
    address: SocketAddr,
    serving: AbortHandle,
}

impl StatusServer {
    /// Listens, and answers from now on.
    ///
    /// # Errors
    /// [`PlanError::Refused`]: there is no such address, somebody else listens there, or we may not.
    pub(crate) async fn start(
        listen: &ListenAddress,
        job: Arc<Observed>,
    ) -> Result<Self, PlanError> {
        let bound = async {
            let listener = TcpListener::bind((listen.host.as_str(), listen.port)).await?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = bound.await.map_err(|e| refusal(listen, &e))?;
        let serving = tokio::spawn(serve(listener, job)).abort_handle();
        Ok(Self { address, serving })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn refusal(listen: &ListenAddress, error: &io::Error) -> PlanError {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; name another port",
        io::ErrorKind::PermissionDenied => "name a port above 1023",
        _ => "name an address of this machine",
    };
    PlanError::Refused(format!(
        "--status-listen: cannot listen on {}, port {}: {error}; {remedy}",
        listen.host, listen.port
    ))
}

async fn serve(listener: TcpListener, job: Arc<Observed>) {
    let mut connections = JoinSet::new();
    let mut notes = tokio::time::interval(NOTE_INTERVAL);
    notes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = notes.tick() => job.note(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(tokio::time::timeout(
                        CONNECTION_TIME_MAX,
                        converse(stream, Arc::clone(&job)),
                    ));
                }
                Err(e) => {
                    tracing::info!("--status-listen: cannot take a connection: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// One request and its answer. What goes wrong with it is the stranger's.
async fn converse(stream: TcpStream, job: Arc<Observed>) {
    let answering = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &job);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answering)
        .await;
    if let Err(e) = served {
        tracing::debug!("--status-listen: {e}");
    }
}

fn answer(method: &Method, path: &str, job: &Observed) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    if ![Method::GET, Method::HEAD].contains(method) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET only\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match path {
        "/" => response(StatusCode::OK, "text/html; charset=utf-8", PAGE),
        "/healthz" => response(StatusCode::OK, PLAIN, "ok\n"),
        "/metrics" => {
            let text = metrics::text(&job.moment());
            response(StatusCode::OK, metrics::CONTENT_TYPE, text)
        }
        "/status" => match json::text(&job.moment()) {
            Ok(text) => response(StatusCode::OK, "application/json", text),
            Err(e) => response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{e}\n")),
        },
        _ => response(
            StatusCode::NOT_FOUND,
            PLAIN,
            "there are /, /status, /metrics and /healthz\n",
        ),
    }
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use keyhaul_engine::progress::Progress;

    use super::super::observed::tests::ends;
    use super::*;

    #[test]
    fn answers() {
        let job = Observed::new(Arc::new(Progress::default()), ends(), true);
        for (method, path, status, content_type) in [
            (Method::GET, "/", 200, "text/html; charset=utf-8"),
            (Method::HEAD, "/", 200, "text/html; charset=utf-8"),
            (Method::GET, "/status", 200, "application/json"),
            (Method::GET, "/metrics", 200, metrics::CONTENT_TYPE),
            (Method::GET, "/healthz", 200, "text/plain; charset=utf-8"),
            (Method::GET, "/status/", 404, "text/plain; charset=utf-8"),
            (Method::GET, "/../etc", 404, "text/plain; charset=utf-8"),
            (Method::POST, "/status", 405, "text/plain; charset=utf-8"),
        ] {
            let got = answer(&method, path, &job);
            let got = (
                got.status().as_u16(),
                got.headers()[CONTENT_TYPE].to_str().unwrap(),
            );
            assert_eq!(got, (status, content_type), "{method} {path}");
        }
    }
}
