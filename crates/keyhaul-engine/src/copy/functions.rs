//! Function libraries on their way: from the source's servers, or as they come out of an RDB.

use std::sync::Arc;

use bytes::Bytes;
use keyhaul_client::{ClientError, FunctionLibrary};
use tokio::sync::mpsc;

use crate::copy::Job;
use crate::ledger::Ledger;
use crate::patience::Patience;
use crate::prepare::{SourceEnd, TargetEnd};
use crate::site::Site;
use crate::target::file::library_name;
use crate::target::file_lane::SharedFile;
use crate::target::functions::{self, FunctionCounts};

impl Job {
    /// Copies the libraries of the source's servers.
    pub(crate) async fn copy_functions(
        &self,
        source: &Arc<Site>,
        file: Option<&SharedFile>,
        ledger: &Arc<Ledger>,
    ) -> FunctionCounts {
        let options = &self.prepared.options;
        if !options.functions {
            return FunctionCounts::default();
        }
        let mut patience = Patience::new(options.retry_for);
        let libraries = loop {
            match functions::read_all(source, ledger).await {
                Ok(libraries) => break libraries,
                Err(e) => {
                    if source.recover(&e, &mut patience, ledger).await.is_err() {
                        return FunctionCounts::default();
                    }
                }
            }
        };
        self.put_functions(libraries, file, ledger).await
    }

    /// Copies the libraries of the source's servers as they are now over those of the target's.
    pub(crate) async fn copy_libraries(&self, ledger: &Arc<Ledger>) -> FunctionCounts {
        let SourceEnd::Servers { site: source, .. } = &self.prepared.source else {
            return FunctionCounts::default();
        };
        self.copy_functions(source, None, ledger).await
    }

    /// Copies libraries as they come; the same one may come from several primaries.
    pub(crate) async fn take_functions(
        &self,
        mut codes: mpsc::Receiver<Bytes>,
        file: Option<&SharedFile>,
        ledger: &Arc<Ledger>,
    ) -> FunctionCounts {
        let mut libraries: Vec<FunctionLibrary> = Vec::new();
        while let Some(code) = codes.recv().await {
            let name = library_name(&code).map(Bytes::from);
            let name = name.unwrap_or_else(|| Bytes::from_static(b"(unnamed)"));
            let known = libraries.iter().find(|known| known.name == name);
            match known {
                Some(known) if known.code == code => {}
                Some(_) => ledger.remark(format!(
                    "function library '{}' differs between parts of the source; the first one found is taken",
                    name.escape_ascii()
                )),
                None => libraries.push(FunctionLibrary { name, code }),
            }
        }
        match self.prepared.options.functions {
            true => self.put_functions(libraries, file, ledger).await,
            false => FunctionCounts::default(),
        }
    }

    async fn put_functions(
        &self,
        libraries: Vec<FunctionLibrary>,
        file: Option<&SharedFile>,
        ledger: &Arc<Ledger>,
    ) -> FunctionCounts {
        let target = match (&self.prepared.target, file) {
            (TargetEnd::Servers { site, .. }, _) => site,
            (TargetEnd::File(_), Some(file)) => {
                let (file, ledger) = (file.clone(), ledger.clone());
                let version = self.prepared.reader.rdb_version;
                let written = tokio::task::spawn_blocking(move || {
                    functions::write_all(&file, version, &libraries, &ledger)
                });
                return written.await.unwrap_or_default();
            }
            (TargetEnd::File(_), None) => return FunctionCounts::default(),
        };
        let options = &self.prepared.options;
        let mut patience = Patience::new(options.retry_for);
        loop {
            let loaded: Result<_, ClientError> =
                functions::load_all(target, &libraries, options.on_conflict, ledger).await;
            match loaded {
                Ok(counts) => return counts,
                Err(e) => {
                    if target.recover(&e, &mut patience, ledger).await.is_err() {
                        return FunctionCounts::default();
                    }
                }
            }
        }
    }
}
