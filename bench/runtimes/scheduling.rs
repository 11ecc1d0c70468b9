//! The behaviour of monoio 0.2.4's run queue for tasks, timers and I/O while a task stays runnable. Every experiment
//! consists of a few tasks on one runtime.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use monoio::io::{AsyncReadRentExt, AsyncWriteRentExt};

use crate::deadline::Deadline;
use crate::doorbell::{self, Doorbell};
use crate::now;
use crate::runtime::{self, Io};

/// The way in which a task that stays runnable yields.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Yield {
    /// It wakes itself.
    ToItself,
    /// Another task, which it wakes, wakes it.
    ThroughPartner,
}

/// Wakes tasks that yielded; the broker's flusher has this role.
#[derive(Default)]
struct Partner {
    yielded: RefCell<Vec<Waker>>,
    sleeper: Cell<Option<Waker>>,
}

impl Partner {
    async fn run(self: Rc<Self>) {
        poll_fn(|context| {
            for task in self.yielded.borrow_mut().drain(..) {
                task.wake();
            }
            self.sleeper.set(Some(context.waker().clone()));
            Poll::<()>::Pending
        })
        .await;
    }

    fn wake_later(&self, task: &Waker) {
        self.yielded.borrow_mut().push(task.clone());
        if let Some(partner) = self.sleeper.take() {
            partner.wake();
        }
    }
}

/// Runs a task that is always runnable for `duration`.
async fn busy(duration: Duration, manner: Yield) {
    let partner = Rc::new(Partner::default());
    drop(monoio::spawn(Rc::clone(&partner).run()));
    let end = now() + duration;
    poll_fn(|context| {
        if now() >= end {
            return Poll::Ready(());
        }
        match manner {
            Yield::ToItself => context.waker().wake_by_ref(),
            Yield::ThroughPartner => partner.wake_later(context.waker()),
        }
        Poll::Pending
    })
    .await;
}

/// Round trips of a client thread that an echoing task completes in 200 ms beside a task that is always runnable.
pub(crate) fn round_trips_beside_a_busy_task(io: Io, manner: Yield) -> io::Result<usize> {
    let (mut client, server) = std::os::unix::net::UnixStream::pair()?;
    client.set_read_timeout(Some(Duration::from_millis(250)))?;
    let client = thread::spawn(move || {
        let mut message = [1; 64];
        let mut count = 0;
        while client.write_all(&message).is_ok() && client.read_exact(&mut message).is_ok() {
            count += 1;
        }
        count
    });
    let (mut runtime, chosen) = runtime::build(io)?;
    server.set_nonblocking(chosen == Io::Epoll)?;
    let handle = server.try_clone()?;
    runtime.block_on(async {
        let mut server = monoio::net::UnixStream::from_std(server)?;
        drop(monoio::spawn(async move {
            let mut message = vec![0; 64];
            loop {
                let (read, buffer) = server.read_exact(message).await;
                let (written, buffer) = server.write_all(buffer).await;
                if read.is_err() || written.is_err() {
                    return;
                }
                message = buffer;
            }
        }));
        monoio::spawn(busy(Duration::from_millis(200), manner)).await;
        handle.shutdown(Shutdown::Both)
    })?;
    client.join().map_err(|_| io::Error::other("the client's thread panicked"))
}

/// When a timer of 20 ms fires beside a task that is runnable for 200 ms.
pub(crate) fn timer_beside_a_busy_task(io: Io) -> io::Result<Duration> {
    let (mut runtime, _) = runtime::build(io)?;
    runtime.block_on(async {
        let start = now();
        drop(monoio::spawn(busy(Duration::from_millis(200), Yield::ThroughPartner)));
        monoio::spawn(monoio::time::sleep(Duration::from_millis(20))).await;
        Ok(start.elapsed())
    })
}

/// When a sleep of ten seconds ends after its deadline was moved to 30 ms from the start.
pub(crate) fn deadline_moved_earlier(io: Io) -> io::Result<Duration> {
    let (mut runtime, _) = runtime::build(io)?;
    runtime.block_on(async {
        let start = now();
        let deadline = Rc::new(Deadline::default());
        deadline.set(Some((start + Duration::from_secs(10)).into()));
        let moved = Rc::clone(&deadline);
        drop(monoio::spawn(async move {
            monoio::time::sleep(Duration::from_millis(10)).await;
            moved.set(Some((start + Duration::from_millis(30)).into()));
        }));
        deadline.reached().await;
        Ok(start.elapsed())
    })
}

/// Rings from another thread: the time until the sleeping shard runs (median), and the cost of ringing for the sender.
pub(crate) fn doorbell_from_another_thread(io: Io) -> io::Result<(Duration, Duration)> {
    const RINGS: usize = 200;
    let (counter, bell) = doorbell::create()?;
    let (rung_at, ringer_reads) = std::sync::mpsc::channel();
    let ringer = thread::spawn(move || -> io::Result<(Duration, Duration)> {
        let (mut latencies, mut costs) = (Vec::new(), Vec::new());
        for _ in 0..RINGS {
            thread::sleep(Duration::from_millis(1));
            let start = now();
            bell.ring()?;
            costs.push(start.elapsed());
            let woken: Instant =
                ringer_reads.recv_timeout(Duration::from_secs(2)).map_err(io::Error::other)?;
            latencies.push(woken - start);
        }
        latencies.sort_unstable();
        costs.sort_unstable();
        Ok((latencies[RINGS / 2], costs[RINGS / 2]))
    });
    let (mut runtime, _) = runtime::build(io)?;
    runtime.block_on(async {
        let doorbell = Doorbell::attach(counter)?;
        for _ in 0..RINGS {
            doorbell.rung().await?;
            rung_at.send(now()).map_err(io::Error::other)?;
        }
        io::Result::Ok(())
    })?;
    ringer.join().map_err(|_| io::Error::other("the ringing thread panicked"))?
}
