//! Certificates that are made for one test.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The command's own configuration differs between systems, so it gets one of ours.
const OPENSSL_CONFIG: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = unused
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectAltName = DNS:localhost,IP:127.0.0.1
extendedKeyUsage = serverAuth,clientAuth
[client]
basicConstraints = CA:FALSE
extendedKeyUsage = clientAuth
";

/// An authority that nobody else trusts, and the certificates it gave.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them with the `openssl` command, in this folder.
    ///
    /// # Errors
    /// The command is missing, or the folder can't be written to.
    pub fn make(folder: &Path) -> Result<Self> {
        let certificates = Self {
            folder: folder.to_owned(),
        };
        fs::write(certificates.path("openssl.cnf"), OPENSSL_CONFIG)?;
        certificates.issue("ca", None)?;
        certificates.issue("server", Some("ca"))?;
        certificates.issue("client", Some("ca"))?;
        Ok(certificates)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A client's certificate.
    #[must_use]
    pub fn client_certificate(&self) -> PathBuf {
        self.path("client.crt")
    }

    /// The key of [`Certificates::client_certificate`].
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.path("client.key")
    }

    /// The certificate of a server on this machine.
    #[must_use]
    pub fn server_certificate(&self) -> PathBuf {
        self.path("server.crt")
    }

    /// The key of [`Certificates::server_certificate`].
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.path("server.key")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn issue(&self, name: &str, by: Option<&str>) -> Result<()> {
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-nodes", "-days", "2", "-sha256"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-subj", &format!("/CN=pollux test {name}")])
            .args(["-extensions", name])
            .arg("-config")
            .arg(self.path("openssl.cnf"))
            .arg("-keyout")
            .arg(self.path(&format!("{name}.key")))
            .arg("-out")
            .arg(self.path(&format!("{name}.crt")));
        if let Some(by) = by {
            command
                .arg("-CA")
                .arg(self.path(&format!("{by}.crt")))
                .arg("-CAkey")
                .arg(self.path(&format!("{by}.key")));
        }
        let output = command.output().context("running openssl")?;
        ensure!(
            output.status.success(),
            "openssl: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
