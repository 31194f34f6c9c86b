//! Real programs beside the relay: those it scrapes and the reverse proxy it
//! sends through. Debian has them all; a test without one is skipped.

use crate::{harness, support};
use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// A running program.
pub struct Neighbour {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
}

/// Where a program is; nothing and a line that says that `test` was skipped
/// when it is nowhere.
pub fn find(test: &str, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|f| f.join(name)).find(|file| file.is_file());
    if found.is_none() {
        support::skipped(test, &format!("{name} is not installed"));
    }
    found
}

/// A port of the loopback that is free now.
pub fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

// === impl Neighbour ===

impl Neighbour {
    pub fn prometheus(binary: &Path) -> Self {
        Self::start(binary, |command, addr, folder| {
            fs::write(folder.join("prometheus.yml"), "").expect("a file");
            command
                .arg("--config.file=prometheus.yml")
                .arg("--storage.tsdb.path=data")
                .arg(format!("--web.listen-address={addr}"));
        })
    }

    pub fn etcd(binary: &Path) -> Self {
        let peers = format!("http://{}", free_port());
        Self::start(binary, |command, addr, _| {
            let clients = format!("http://{addr}");
            command
                .args(["--data-dir", "data", "--enable-pprof"])
                .args(["--listen-client-urls", &clients])
                .args(["--advertise-client-urls", &clients])
                .args(["--listen-peer-urls", &peers])
                .args(["--initial-advertise-peer-urls", &peers])
                .args(["--initial-cluster", &format!("default={peers}")]);
        })
    }

    /// nginx with the gRPC directives of the charm that runs it before Parca.
    pub fn nginx(binary: &Path, upstream: SocketAddr) -> Self {
        Self::start(binary, |command, addr, folder| {
            let config = format!(
                "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\n\
                 events {{}}\n\
                 http {{\n  access_log off;\n  client_body_temp_path body;\n  \
                 proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  \
                 uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  \
                 server {{\n    listen {addr} http2;\n    \
                 location / {{ grpc_pass grpc://{upstream}; }}\n  }}\n}}\n"
            );
            fs::write(folder.join("nginx.conf"), config).expect("a file");
            command.arg("-p").arg(folder).args(["-c", "nginx.conf"]);
        })
    }

    fn start(binary: &Path, arrange: impl FnOnce(&mut Command, SocketAddr, &Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let addr = free_port();
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new(binary);
        arrange(&mut command, addr, folder.path());
        let child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut started = Self {
            child,
            addr,
            folder,
        };
        harness::until("the program listens", || {
            let ended = started.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "it ended: {}", started.log());
            TcpStream::connect(addr).ok()
        });
        started
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
