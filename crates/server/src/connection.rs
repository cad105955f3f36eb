//! Connections with deadlines.
//!
//! `axum::serve` has no settings for slow or greedy clients, but it takes any listener, so the
//! limits sit in the stream between the socket and the HTTP parser: time and bytes of a request's
//! head, time between requests, time that a response may stay unread, and a bound on open
//! connections. What the parser is at, the stream learns from [`Watch`], which the service sets.
//!
//! A connection that is closed while the client still sends is read on for a moment: closing it at
//! once would make the system throw away the response that explains why.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use crate::config::Limits;
use crate::error::Kind;
use crate::metrics::Metrics;

/// Longest time that a closed connection is read on, and how many bytes.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 32 * 1024 * 1024;

/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// While fewer than one in this many places for connections are free, connections are closed after
/// their response: otherwise clients that keep theirs idle would hold off new ones until the idle
/// timeout.
const CROWDED: usize = 8;

/// In the figures, the route of requests whose head was refused.
const UNPARSED: &str = "unparsed";

/// The parser waits for a request.
const HEAD: u8 = 0;
/// A request is being handled.
const REQUEST: u8 = 1;
/// As `HEAD`, for the first time since a request.
const NEXT: u8 = 2;

/// What the parser of a connection is at.
#[derive(Debug, Default)]
struct Watch {
    phase: AtomicU8,
    /// The client may still be sending the body of a request that was refused.
    unread: AtomicBool,
}

/// Listens and hands out guarded streams.
#[derive(Debug)]
pub(crate) struct GuardedListener {
    inner: TcpListener,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    open: Arc<Semaphore>,
}

impl GuardedListener {
    pub(crate) fn new(inner: TcpListener, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            metrics,
            open: Arc::new(Semaphore::new(limits.connections)),
            limits: Arc::new(limits),
        }
    }
}

impl Listener for GuardedListener {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            let Ok(permit) = Arc::clone(&self.open).acquire_owned().await else {
                // Nobody closes the semaphore.
                return std::future::pending().await;
            };
            match self.inner.accept().await {
                Ok((stream, addr)) => {
                    // Responses are written at once; waiting for more would only delay them.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    return (Guarded::new(stream, self, permit), addr);
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    let peer = matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                    );
                    if !peer {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// What a stream does when it is not simply passing bytes on.
#[derive(Debug)]
enum Mode {
    Open,
    /// Writes the rest of a response, and then pretends the end of the stream.
    Refusing(Vec<u8>),
    /// The parser sees the end of the stream.
    Ended,
    /// Reads on after the response, up to this many bytes.
    Lingering(usize),
}

/// A socket with deadlines.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// `None` once handed to the task that reads on.
    stream: Option<TcpStream>,
    watch: Arc<Watch>,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    mode: Mode,
    /// Bytes of the present head.
    head: usize,
    /// When the head has to be complete, or the connection is closed for want of a request.
    head_deadline: Pin<Box<Sleep>>,
    /// When a client that does not read is given up.
    write_deadline: Option<Pin<Box<Sleep>>>,
    permit: Option<OwnedSemaphorePermit>,
    open: Arc<Semaphore>,
}

impl Guarded {
    fn new(stream: TcpStream, listener: &GuardedListener, permit: OwnedSemaphorePermit) -> Self {
        let first = Instant::now() + listener.limits.read_timeout;
        Self {
            stream: Some(stream),
            watch: Arc::default(),
            limits: Arc::clone(&listener.limits),
            metrics: Arc::clone(&listener.metrics),
            mode: Mode::Open,
            head: 0,
            head_deadline: Box::pin(sleep_until(first)),
            write_deadline: None,
            permit: Some(permit),
            open: Arc::clone(&listener.open),
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads while the parser waits for a head.
    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.watch.phase.swap(HEAD, Ordering::AcqRel) == NEXT {
            self.head = 0;
            let idle = Instant::now() + self.limits.idle_timeout;
            self.head_deadline.as_mut().reset(idle);
        }
        if self.head > self.limits.head_bytes {
            // The parser has all of it and asks for more.
            let message = format!("the head is larger than {} bytes", self.limits.head_bytes);
            return self.refuse(cx, Kind::HeadTooLarge, &message);
        }
        // One byte beyond the limit is enough to know.
        let room = buf.remaining().min(self.limits.head_bytes + 1 - self.head);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        match self.stream()?.poll_read(cx, &mut part) {
            Poll::Ready(outcome) => {
                let count = part.filled().len();
                buf.advance(count);
                if self.head == 0 && count > 0 {
                    let complete = Instant::now() + self.limits.read_timeout;
                    self.head_deadline.as_mut().reset(complete);
                }
                self.head += count;
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                ready!(self.head_deadline.as_mut().poll(cx));
                if self.head == 0 {
                    self.mode = Mode::Ended;
                    return Poll::Ready(Ok(()));
                }
                self.refuse(cx, Kind::Timeout, "the head did not arrive in time")
            }
        }
    }

    /// Answers in place of the routes, which have not seen the request.
    fn refuse(&mut self, cx: &mut Context<'_>, kind: Kind, message: &str) -> Poll<io::Result<()>> {
        let status = kind.status();
        let body = serde_json::json!({"error": message, "error_type": kind.word()}).to_string();
        let response = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.metrics
            .finished(UNPARSED, "", status.as_u16(), Duration::ZERO);
        self.mode = Mode::Refusing(response.into_bytes());
        self.poll_refuse(cx)
    }

    /// Sends what is left of that answer, then ends.
    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.unread.store(true, Ordering::Release);
        if let Mode::Refusing(mut rest) = std::mem::replace(&mut self.mode, Mode::Ended) {
            while !rest.is_empty() {
                match self.stream()?.poll_write(cx, &rest) {
                    Poll::Ready(count) => drop(rest.drain(..count?)),
                    Poll::Pending => {
                        self.mode = Mode::Refusing(rest);
                        ready!(self.overdue(cx, Poll::<()>::Pending))?;
                        break;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Turns a write that does not get on into an error after a while.
    fn overdue<T>(&mut self, cx: &mut Context<'_>, poll: Poll<T>) -> Poll<Result<T, io::Error>> {
        match poll {
            Poll::Ready(value) => {
                self.write_deadline = None;
                Poll::Ready(Ok(value))
            }
            Poll::Pending => {
                let patience = self.limits.write_timeout;
                let deadline = self
                    .write_deadline
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Reads and throws away. Ready at the end of the stream or of the patience.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 8192];
        while let Mode::Lingering(left) = self.mode {
            if self.head_deadline.as_mut().poll(cx).is_ready() {
                break;
            }
            let mut buf = ReadBuf::new(&mut waste);
            let Ok(stream) = self.stream() else { break };
            let outcome = ready!(stream.poll_read(cx, &mut buf));
            let count = buf.filled().len();
            if outcome.is_err() || count == 0 || count > left {
                break;
            }
            self.mode = Mode::Lingering(left - count);
        }
        self.mode = Mode::Ended;
        Poll::Ready(())
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.mode {
            Mode::Open if self.watch.phase.load(Ordering::Acquire) == REQUEST => {
                self.stream()?.poll_read(cx, buf)
            }
            Mode::Open => self.poll_head(cx, buf),
            Mode::Refusing(..) => self.poll_refuse(cx),
            Mode::Ended | Mode::Lingering(_) => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = self.stream()?.poll_write(cx, buf);
        self.overdue(cx, poll).map(Result::flatten)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = self.stream()?.poll_flush(cx);
        self.overdue(cx, poll).map(Result::flatten)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !matches!(self.mode, Mode::Lingering(_)) {
            let poll = self.stream()?.poll_shutdown(cx);
            ready!(self.overdue(cx, poll))??;
            if !self.watch.unread.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            self.mode = Mode::Lingering(LINGER_BYTES);
            self.head_deadline.as_mut().reset(Instant::now() + LINGER);
        }
        ready!(self.poll_linger(cx));
        // Read to the end: nothing is left for the task in `drop`.
        self.watch.unread.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = self.stream()?.poll_write_vectored(cx, bufs);
        self.overdue(cx, poll).map(Result::flatten)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }
}

impl Drop for Guarded {
    /// The parser drops a stream that it takes for broken without closing it; the response of
    /// [`poll_refuse`](Self::poll_refuse) would be lost.
    fn drop(&mut self) {
        if !self.watch.unread.load(Ordering::Acquire) {
            return;
        }
        let (Some(mut stream), Ok(runtime)) =
            (self.stream.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let permit = self.permit.take();
        runtime.spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let read_on = async {
                stream.shutdown().await?;
                let mut waste = [0; 8192];
                let mut left = LINGER_BYTES;
                loop {
                    let count = stream.read(&mut waste).await?;
                    if count == 0 || count > left {
                        return io::Result::Ok(());
                    }
                    left -= count;
                }
            };
            // Neither the end of the patience nor a reset matters any more.
            drop(tokio::time::timeout(LINGER, read_on).await);
            drop(permit);
        });
    }
}

/// Makes the service of a connection.
#[derive(Clone, Debug)]
pub(crate) struct MakeConnection(pub(crate) Router);

impl Service<IncomingStream<'_, GuardedListener>> for MakeConnection {
    type Response = Connection;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Connection, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, stream: IncomingStream<'_, GuardedListener>) -> Self::Future {
        let io = stream.io();
        std::future::ready(Ok(Connection {
            router: self.0.clone(),
            watch: Arc::clone(&io.watch),
            open: Arc::clone(&io.open),
            crowded: io.limits.connections / CROWDED,
        }))
    }
}

/// The routes, and the state of the connection they are reached by.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    router: Router,
    watch: Arc<Watch>,
    /// Free places for connections, and when they are few.
    open: Arc<Semaphore>,
    crowded: usize,
}

impl Service<Request> for Connection {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // Here and not in the future: the parser reads on before it polls that.
        self.watch.phase.store(REQUEST, Ordering::Release);
        let watch = Arc::clone(&self.watch);
        let open = Arc::clone(&self.open);
        let crowded = self.crowded;
        let with_body = !request.body().is_end_stream();
        let response = self.router.call(request);
        Box::pin(async move {
            let mut response = response.await;
            if let Ok(response) = &mut response {
                let refused = !response.status().is_success();
                watch.unread.store(refused && with_body, Ordering::Release);
                if open.available_permits() < crowded {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
            }
            watch.phase.store(NEXT, Ordering::Release);
            response
        })
    }
}
