//! nginx that ends TLS, in front of the relay or of what it sends to.

use crate::harness::{LIMIT, until};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running nginx, with the processes of a real one: those that serve are replaced
/// when it is told to read its configuration anew.
pub struct Nginx {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
}

// === impl Nginx ===

impl Nginx {
    /// Serves by HTTP/2 over TLS with `cert.pem` and `key.pem` of `folder`, as
    /// `directives` of the server say.
    pub fn start(binary: &Path, folder: TempDir, directives: &str) -> Self {
        let addr = crate::neighbours::free_port();
        let path = folder.path();
        fs::write(path.join("nginx.conf"), configuration(addr, directives)).expect("a file");
        let log = File::create(path.join("log")).expect("a log");
        let child = Command::new(binary)
            .arg("-p")
            .arg(path)
            .args(["-c", "nginx.conf"])
            .current_dir(path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("nginx starts");
        let mut started = Self {
            child,
            addr,
            folder,
        };
        until("nginx listens", || {
            let ended = started.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "it ended: {}", started.log());
            TcpStream::connect(addr).ok()
        });
        started
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its configuration and certificates.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it says about itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Other directives from the next [`Nginx::reload`] on.
    pub fn direct(&self, directives: &str) {
        let path = self.folder.path().join("nginx.conf");
        fs::write(path, configuration(self.addr, directives)).expect("a file");
    }

    /// Reads its files anew: others serve from now on, and those before end what they
    /// have.
    pub fn reload(&self) {
        let left = || self.log().matches("gracefully shutting down").count();
        let before = left();
        self.signal("HUP");
        until("the former process leaves", || {
            (left() > before).then_some(())
        });
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(status.expect("kill runs").success(), "kill -{name}");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The processes that serve end with the first one only if it is asked.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let deadline = Instant::now() + LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(addr: SocketAddr, directives: &str) -> String {
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid nginx.pid;\n\
         error_log stderr notice;\n\
         events {{}}\n\
         http {{\n  access_log off;\n  client_body_temp_path body;\n  \
         proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  \
         uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  \
         server {{\n    listen {addr} ssl http2;\n    \
         ssl_certificate cert.pem;\n    ssl_certificate_key key.pem;\n    \
         {directives}\n  }}\n}}\n"
    )
}
