//! A real Parca, where one is at hand, and what it answers.
//!
//! `PARCA_BIN` names the executable. It runs in memory, on a free port of the
//! loopback, contacts nothing, and ends with the value that started it.

use super::rules;
use crate::r#gen::query::{
    GroupBy, MergeProfile, ProfileTypesRequest, QueryRangeRequest, QueryRequest, ValuesRequest,
    query_request::{Mode, Options, ReportType},
    query_response::Report,
    query_service_client::QueryServiceClient,
};
use profile_relay::r#gen::{
    pprof::Profile,
    profilestore::{WriteRawRequest, profile_store_service_client::ProfileStoreServiceClient},
};
use prost::Message;
use std::{
    collections::BTreeMap,
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// A running Parca.
pub struct RealParca {
    child: Child,
    addr: SocketAddr,
    channel: Channel,
    folder: tempfile::TempDir,
}

// === impl RealParca ===

impl RealParca {
    /// Starts `binary` and waits until it answers.
    pub async fn start(binary: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let addr = free_port();
        let child = spawn(binary, addr, &folder);
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
        let mut parca = Self {
            child,
            addr,
            channel: endpoint.timeout(Duration::from_secs(60)).connect_lazy(),
            folder,
        };
        for _ in 0..300 {
            if parca.answers().await {
                return parca;
            }
            assert!(parca.is_alive(), "parca ended: {}", parca.output());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("parca does not answer: {}", parca.output());
    }

    /// What `binary` says of its version.
    pub fn version(binary: &str) -> String {
        let output = Command::new(binary).arg("--version").output();
        let output = output.expect("parca starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether the process runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether the process ends, which takes a moment after its connections
    /// broke.
    pub async fn ends(&mut self) -> bool {
        for _ in 0..100 {
            if !self.is_alive() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Whether an empty WriteRaw is answered.
    pub async fn answers(&self) -> bool {
        self.write(WriteRawRequest::default()).await.is_ok()
    }

    /// Sends a request as it is.
    pub async fn write(&self, request: WriteRawRequest) -> Result<(), Status> {
        ProfileStoreServiceClient::new(self.channel.clone())
            .write_raw(request)
            .await
            .map(|_| ())
    }

    /// All profile types, as queries name them.
    pub async fn profile_types(&self) -> Result<Vec<String>, Status> {
        let answer = self
            .client()
            .profile_types(ProfileTypesRequest::default())
            .await?;
        let name = |t: crate::r#gen::query::ProfileType| {
            let delta = if t.delta { ":delta" } else { "" };
            format!(
                "{}:{}:{}:{}:{}{delta}",
                t.name, t.sample_type, t.sample_unit, t.period_type, t.period_unit
            )
        };
        Ok(answer.into_inner().types.into_iter().map(name).collect())
    }

    /// All values of a label.
    pub async fn values(&self, label: &str) -> Result<Vec<String>, Status> {
        let request = ValuesRequest {
            label_name: label.into(),
            ..ValuesRequest::default()
        };
        Ok(self
            .client()
            .values(request)
            .await?
            .into_inner()
            .label_values)
    }

    /// Everything between two times (nanoseconds, inclusive) as one pprof.
    /// `query` is a profile type and a selector.
    pub async fn merged(
        &self,
        query: &str,
        range: (i64, i64),
        group_by: &[&str],
    ) -> Result<Profile, Status> {
        let mut request = merge(query, range, ReportType::Pprof);
        request.group_by = Some(GroupBy {
            fields: group_by.iter().map(|f| (*f).into()).collect(),
        });
        match self.client().query(request).await?.into_inner().report {
            Some(Report::Pprof(bytes)) => {
                let plain = rules::inflate(&bytes).expect("the report is gzip");
                Ok(Profile::decode(plain).expect("the report is a pprof"))
            }
            _ => Err(Status::internal("no pprof in the answer")),
        }
    }

    /// The number of rows of a TOP report.
    pub async fn top(&self, query: &str, range: (i64, i64)) -> Result<usize, Status> {
        match self.report(query, range, ReportType::Top).await? {
            Some(Report::Top(top)) => Ok(top.list.len()),
            _ => Err(Status::internal("no top in the answer")),
        }
    }

    /// A report; none for a type that tests do not read. TOP, CALLGRAPH and
    /// FLAMEGRAPH_TABLE are what ends a Parca over a line without a function.
    pub async fn report(
        &self,
        query: &str,
        range: (i64, i64),
        report: ReportType,
    ) -> Result<Option<Report>, Status> {
        let request = merge(query, range, report);
        Ok(self.client().query(request).await?.into_inner().report)
    }

    /// The points (seconds, value) of a query; empty when there is nothing.
    pub async fn points(&self, query: &str, range: (i64, i64)) -> Result<Vec<(i64, i64)>, Status> {
        let request = QueryRangeRequest {
            query: query.into(),
            start: Some(timestamp(range.0)),
            end: Some(timestamp(range.1)),
            step: prost_types::Duration::try_from(Duration::from_secs(1)).ok(),
            ..QueryRangeRequest::default()
        };
        match self.client().query_range(request).await {
            Err(status) if status.code() == tonic::Code::NotFound => Ok(Vec::new()),
            Err(status) => Err(status),
            Ok(answer) => {
                let samples = answer
                    .into_inner()
                    .series
                    .into_iter()
                    .flat_map(|s| s.samples);
                Ok(samples
                    .map(|s| (s.timestamp.unwrap_or_default().seconds, s.value))
                    .collect())
            }
        }
    }

    /// The debug symbols that it keeps of a build id.
    pub fn debuginfo(&self, build_id: &str) -> Option<Vec<u8>> {
        let path = self.folder.path().join("data/debuginfo").join(build_id);
        std::fs::read(path.join("debuginfo")).ok()
    }

    fn client(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for RealParca {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Flat values by leaf function, the first sample type, zeros left out.
pub fn flat(profile: &Profile) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for sample in &profile.sample {
        let leaf = sample
            .location_id
            .first()
            .and_then(|id| location(profile, *id));
        *sums.entry(leaf.unwrap_or_default()).or_default() += sample.value[0];
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

fn location(profile: &Profile, id: u64) -> Option<String> {
    let location = profile.location.iter().find(|l| l.id == id)?;
    let Some(line) = location.line.first() else {
        return Some(format!("{:#x}", location.address));
    };
    let function = profile.function.iter().find(|f| f.id == line.function_id)?;
    let text = |at: i64| profile.string_table[at as usize].clone();
    let name = text(function.name);
    Some(if name.is_empty() {
        text(function.system_name)
    } else {
        name
    })
}

fn merge(query: &str, range: (i64, i64), report: ReportType) -> QueryRequest {
    QueryRequest {
        mode: Mode::Merge.into(),
        report_type: report.into(),
        options: Some(Options::Merge(MergeProfile {
            query: query.into(),
            start: Some(timestamp(range.0)),
            end: Some(timestamp(range.1)),
        })),
        ..QueryRequest::default()
    }
}

fn timestamp(nanos: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: nanos.rem_euclid(1_000_000_000) as i32,
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

fn spawn(binary: &str, addr: SocketAddr, folder: &tempfile::TempDir) -> Child {
    let config = folder.path().join("parca.yaml");
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    let text = format!(
        "object_storage:\n  bucket:\n    type: FILESYSTEM\n    config: {{directory: {}}}\n",
        data.display()
    );
    std::fs::write(&config, text).expect("the configuration is written");
    let log = File::create(folder.path().join("log")).expect("a log");
    Command::new(binary)
        .arg(format!("--config-path={}", config.display()))
        .arg(format!("--http-address={addr}"))
        .arg("--debuginfod-upstream-servers=")
        .arg("--log-level=info")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("parca starts")
}
