//! Makes sure that a server reads no more of a connection that we have given up.
//!
//! What was sent over a broken link may still lie in the buffers of the system, and the server may execute it when another
//! link has long written something newer. So a connection knows what it is called at the server, and is ended there before
//! the next one is used.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use keyhaul_client::{Address, ClientError, TargetConnection};

/// How long is waited where a user may neither end a connection nor see which there are: what lies in the buffers of a
/// server that works is read by then.
const BLIND_WAIT: Duration = Duration::from_secs(2);
/// Between two looks at the list of connections.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How often the list is looked at before the server is taken for one that does not read.
const LOOKS_MAX: u32 = 600;

/// What a connection is called at its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Called {
    id: i64,
    /// Where the server sees it come from (Redis >= 6.2): a server that was restarted counts from 1 again.
    addr: Option<String>,
}

/// The connections to each node that may still be read there.
#[derive(Debug, Default)]
pub(crate) struct Graves(HashMap<Address, Vec<Option<Called>>>);

/// Ends the connections of runs of this job that are over: they have the name of the job, but another run's. Where the user may
/// not see connections nothing is done.
///
/// # Errors
/// Those of the connection.
pub(crate) async fn end_earlier(
    connection: &mut TargetConnection,
    tag: &RunTag,
) -> Result<(), ClientError> {
    let Some(text) = list(connection).await? else {
        return Ok(());
    };
    let of_job = format!("name={}", tag.job);
    let (mine, of_job) = (tag.name(), of_job.as_str());
    for line in text.lines() {
        let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
        let is_earlier =
            line.split(' ').any(|field| field.starts_with(of_job)) && field("name=") != Some(&mine);
        if let (true, Some(id)) = (is_earlier, field("id=").and_then(|id| id.parse().ok())) {
            let addr = field("addr=").map(str::to_owned);
            end(&Called { id, addr }, connection).await?;
        }
    }
    Ok(())
}

/// What the connections of one run of a job are called at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunTag {
    job: String,
    run: String,
}

impl RunTag {
    /// Of a run of this job, different from all others.
    pub(crate) fn new(job_id: u64) -> Self {
        let run = RandomState::new().hash_one(job_id);
        Self {
            job: format!("keyhaul-{job_id:016x}-"),
            run: format!("{run:016x}"),
        }
    }

    fn name(&self) -> String {
        format!("{}{}", self.job, self.run)
    }
}

/// Names a connection, and says what it is called; `None` where the user may not ask (CLIENT ID, Redis >= 5.0).
///
/// # Errors
/// Any but that refusal.
pub(crate) async fn called(
    connection: &mut TargetConnection,
    tag: Option<&RunTag>,
) -> Result<Option<Called>, ClientError> {
    if let Some(tag) = tag {
        let name = tag.name();
        match connection
            .raw()
            .call(&[b"CLIENT", b"SETNAME", name.as_bytes()])
            .await
        {
            Ok(_) | Err(ClientError::Server { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    let id = match connection.raw().call(&[b"CLIENT", b"ID"]).await {
        Ok(reply) => reply.as_int(),
        Err(ClientError::Server { .. }) => None,
        Err(e) => return Err(e),
    };
    let Some(id) = id else {
        return Ok(None);
    };
    let addr = match connection.raw().call(&[b"CLIENT", b"INFO"]).await {
        Ok(info) => info.as_bytes().and_then(|info| {
            let info = std::str::from_utf8(info).ok()?;
            let addr = info
                .split(' ')
                .find_map(|field| field.strip_prefix("addr="))?;
            Some(addr.to_owned())
        }),
        Err(ClientError::Server { .. }) => None,
        Err(e) => return Err(e),
    };
    Ok(Some(Called { id, addr }))
}

impl Graves {
    /// A connection was given up.
    pub(crate) fn put(&mut self, address: &Address, called: Option<Called>) {
        let graves = self.0.entry(address.clone()).or_default();
        // One wait is enough for all that have no name.
        if !graves.contains(&called) {
            graves.push(called);
        }
    }

    /// Returns when the server reads none of those that were given up any more. `connection` is a new one to it.
    ///
    /// # Errors
    /// Those of the connection: to be called again.
    pub(crate) async fn close(
        &mut self,
        address: &Address,
        connection: &mut TargetConnection,
    ) -> Result<(), ClientError> {
        let Some(graves) = self.0.get_mut(address) else {
            return Ok(());
        };
        while let Some(called) = graves.last() {
            match called {
                Some(called) => end(called, connection).await?,
                None => tokio::time::sleep(BLIND_WAIT).await,
            }
            graves.pop();
        }
        self.0.remove(address);
        Ok(())
    }
}

/// CLIENT KILL ID (Redis >= 2.8.12): what it does not find is gone, and what it finds executes nothing more.
async fn end(called: &Called, connection: &mut TargetConnection) -> Result<(), ClientError> {
    let id = called.id.to_string();
    let mut kill: Vec<&[u8]> = vec![b"CLIENT", b"KILL", b"ID", id.as_bytes()];
    if let Some(addr) = &called.addr {
        kill.extend([&b"ADDR"[..], addr.as_bytes()]);
    }
    match connection.raw().call(&kill).await {
        Ok(_) => return Ok(()),
        Err(ClientError::Server { .. }) => {}
        Err(e) => return Err(e),
    }
    // It goes by itself once the server has read it to its end.
    let is_listed = format!("id={id} ");
    for _ in 0..LOOKS_MAX {
        let Some(text) = list(connection).await? else {
            tokio::time::sleep(BLIND_WAIT).await;
            return Ok(());
        };
        if !text.lines().any(|line| line.starts_with(&is_listed)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Err(connection.raw().unexpected("CLIENT LIST"))
}

/// The connections of the server, one a line; `None` where the user may not see them.
async fn list(connection: &mut TargetConnection) -> Result<Option<String>, ClientError> {
    match connection.raw().call(&[b"CLIENT", b"LIST"]).await {
        Ok(list) => {
            let text = list.as_bytes().map_or(&[][..], |text| text);
            Ok(Some(String::from_utf8_lossy(text).into_owned()))
        }
        Err(ClientError::Server { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}
