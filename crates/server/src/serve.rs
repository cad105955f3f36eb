//! The life of a server: listen, answer, drain, stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::app::{App, Parts};
use crate::config::Config;
use crate::connection::{GuardedListener, MakeConnection};
use crate::error::StartError;
use crate::routes;

/// A wish that the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// How a server stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every request that was accepted got its answer.
    Drained,
    /// Requests were still in flight at the deadline.
    Deadline(Signal),
    /// A second signal asked not to wait.
    Hurried(Signal),
}

impl Outcome {
    /// 0 after a clean drain; otherwise 128 and the number of the signal, as shells count: 130 or
    /// 143.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::Deadline(Signal::Interrupt) | Self::Hurried(Signal::Interrupt) => 130,
            Self::Deadline(Signal::Terminate) | Self::Hurried(Signal::Terminate) => 143,
        }
    }
}

/// A server that listens. Nothing is answered before [`run`](Self::run).
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    addr: SocketAddr,
}

impl Server {
    /// Checks the settings, starts the model and listens.
    ///
    /// # Errors
    ///
    /// The settings contradict each other or the parts, an address other than loopback has no key,
    /// the model cannot be made, or the address cannot be listened on.
    pub async fn bind(config: Config, parts: Parts) -> Result<Self, StartError> {
        let refuse = |source| StartError::Listen {
            addr: config.addr,
            source,
        };
        // Before the model: what is wrong with the address should not take long to learn.
        if !config.addr.ip().is_loopback() && config.api_key.is_none() {
            return Err(StartError::KeyRequired { addr: config.addr });
        }
        let listener = listen(config.addr).map_err(refuse)?;
        let addr = listener.local_addr().map_err(refuse)?;
        let app = Arc::new(App::new(config, parts)?);
        Ok(Self {
            app,
            listener,
            addr,
        })
    }

    /// Where the server listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The routes without the limits of a connection.
    pub fn router(&self) -> Router {
        routes::router(&self.app)
    }

    /// Answers until the first signal. Then readiness turns 503 at once; for
    /// [`Config::drain_notice`] connections are still accepted, so that whoever sends requests here
    /// can see it, and every response asks to close its connection; then nothing new is accepted
    /// and what is in flight is finished, for at most [`Config::drain_deadline`]. A second signal
    /// ends the wait.
    pub async fn run(self, mut signals: mpsc::Receiver<Signal>) -> Outcome {
        let Self { app, listener, .. } = self;
        let router = routes::router(&app);
        let listener = GuardedListener::new(
            listener,
            app.config.limits.clone(),
            Arc::clone(&app.metrics),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener, MakeConnection(router)).with_graceful_shutdown(async {
            // Also when the other end is dropped.
            drop(stopped.await);
        });
        let mut serving = pin!(async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the listener failed");
            }
        });
        let first = tokio::select! {
            // Only without a listener; there is nothing to wait for.
            () = &mut serving => return Outcome::Drained,
            signal = next(&mut signals) => signal,
        };
        tracing::info!(signal = ?first, "stopping");
        app.health.drain();
        let notice = app.config.drain_notice;
        let outcome = tokio::select! {
            biased;
            second = next(&mut signals) => Outcome::Hurried(second),
            outcome = drain(serving.as_mut(), stop, notice, app.config.drain_deadline, first) => outcome,
        };
        tracing::info!(?outcome, "stopped");
        if outcome == Outcome::Drained {
            // Otherwise a batch is being computed that nobody should wait for.
            let app = Arc::clone(&app);
            drop(tokio::task::spawn_blocking(move || app.batcher.close()).await);
        }
        outcome
    }
}

/// Connections that the system keeps until they are accepted. With the usual 128, a burst of clients
/// overflows the list, and those that were dropped try again only seconds later.
const BACKLOG: u32 = 4096;

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for connections of the process before. On Windows the same option
    // would let two servers share the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Waits for a signal, forever if none can come any more.
async fn next(signals: &mut mpsc::Receiver<Signal>) -> Signal {
    match signals.recv().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

async fn drain(
    mut serving: Pin<&mut impl Future<Output = ()>>,
    stop: oneshot::Sender<()>,
    notice: Duration,
    deadline: Duration,
    signal: Signal,
) -> Outcome {
    tokio::select! {
        () = &mut serving => return Outcome::Drained,
        () = sleep(notice) => {}
    }
    // The server may be gone; then it waits for nothing.
    let _ = stop.send(());
    tokio::select! {
        () = serving => Outcome::Drained,
        () = sleep(deadline) => Outcome::Deadline(signal),
    }
}

/// Signals of the system from now on, SIGINT and SIGTERM.
///
/// # Errors
///
/// The handlers cannot be installed.
pub fn signals() -> Result<mpsc::Receiver<Signal>, StartError> {
    let refuse = |source| StartError::System {
        what: "the handlers of signals",
        source,
    };
    let (sender, receiver) = mpsc::channel(2);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        for (kind, meaning) in [
            (SignalKind::interrupt(), Signal::Interrupt),
            (SignalKind::terminate(), Signal::Terminate),
        ] {
            let mut stream = signal(kind).map_err(refuse)?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if sender.send(meaning).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    #[cfg(not(unix))]
    {
        let _ = refuse;
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if sender.send(Signal::Interrupt).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_a_clean_stop_from_others() {
        for (outcome, code) in [
            (Outcome::Drained, 0),
            (Outcome::Deadline(Signal::Terminate), 143),
            (Outcome::Hurried(Signal::Terminate), 143),
            (Outcome::Deadline(Signal::Interrupt), 130),
            (Outcome::Hurried(Signal::Interrupt), 130),
        ] {
            assert_eq!(outcome.exit_code(), code);
        }
    }
}
