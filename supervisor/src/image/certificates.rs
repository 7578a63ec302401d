//! CA certificates that this host trusts beyond Debian's own, for networks that inspect TLS: without them nothing can be
//! fetched in the build, and the agent's tools fail in the container. The same choice as `image/setup/host-ca.sh`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// A file above this size holds no certificates of a person's: the largest bundles have some 250 kB.
const MAX_FILE: u64 = 4 << 20;
/// More extra certificates than this are a mistake (a whole bundle in the wrong place).
const MAX_CERTIFICATES: usize = 512;
/// Columns of base64 in a PEM file, RFC 7468 section 2.
const PEM_COLUMNS: usize = 64;

/// Where this host keeps certificates.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// What Debian's ca-certificates package ships, one file a certificate.
    pub shipped: PathBuf,
    /// The host's bundle; looked at only if there are shipped ones to compare with, else it would bring the world's.
    pub bundle: PathBuf,
    /// Where an administrator puts extra certificates.
    pub admin: Vec<PathBuf>,
    /// Files that the environment names.
    pub named: Vec<PathBuf>,
}

impl Sources {
    /// This host's.
    #[must_use]
    pub fn of_host(env: impl Fn(&str) -> Option<String>) -> Self {
        let named = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"];
        Self {
            shipped: "/usr/share/ca-certificates/mozilla".into(),
            bundle: "/etc/ssl/certs/ca-certificates.crt".into(),
            // Debian, Fedora, SUSE, Arch.
            admin: [
                "/usr/local/share/ca-certificates",
                "/etc/pki/ca-trust/source/anchors",
                "/etc/pki/trust/anchors",
                "/etc/ca-certificates/trust-source/anchors",
            ]
            .map(PathBuf::from)
            .into(),
            named: named.iter().filter_map(|name| env(name)).map(PathBuf::from).collect(),
        }
    }
}

/// A file given by name is of no use.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read the certificate file {path}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{path} holds no CA certificate in PEM form (-----BEGIN CERTIFICATE-----); convert a binary one with: openssl x509 \
         -inform der -in FILE -out FILE.pem"
    )]
    NoCertificate { path: PathBuf },
    #[error(
        "{count} extra CA certificates are more than {MAX_CERTIFICATES}; name single certificates with --ca, not a bundle"
    )]
    TooMany { count: usize },
}

/// Extra certificates, each once, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    certificates: Vec<CertificateDer<'static>>,
    /// Files that the environment names and that cannot be used.
    pub warnings: Vec<String>,
}

impl Extra {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Name and PEM text of each, one certificate a file, as update-ca-certificates(8) wants them.
    pub fn files(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.certificates
            .iter()
            .enumerate()
            .map(|(index, der)| (format!("host-{:03}.crt", index + 1), pem(der).into_bytes()))
    }
}

/// Finds the host's extra certificates and adds those of the files `given`.
///
/// # Errors
/// A given file that cannot be read or holds no certificate, or far too many certificates.
pub fn collect(sources: &Sources, given: &[PathBuf]) -> Result<Extra, CertificateError> {
    let shipped: Vec<_> = read_folder(&sources.shipped);
    let mut host = Vec::new();
    let mut warnings = Vec::new();
    if !shipped.is_empty() {
        host.extend(read(&sources.bundle).unwrap_or_default());
    }
    for folder in &sources.admin {
        host.extend(read_folder(folder));
    }
    for path in &sources.named {
        match read(path) {
            Ok(certificates) => host.extend(certificates),
            Err(error) => {
                let path = path.display();
                warnings
                    .push(format!("cannot read {path}, which the environment names as a certificate file: {error}"));
            }
        }
    }
    let mut certificates: BTreeSet<_> = beyond(host, &shipped);
    for path in given {
        let found = read(path).map_err(|source| CertificateError::Unreadable { path: path.clone(), source })?;
        let usable = found.into_iter().filter(|der| RootCertStore::empty().add(der.clone()).is_ok());
        let before = certificates.len();
        let mut any = false;
        for der in usable {
            any = true;
            certificates.insert(der.to_vec());
        }
        if !any && certificates.len() == before {
            return Err(CertificateError::NoCertificate { path: path.clone() });
        }
    }
    if certificates.len() > MAX_CERTIFICATES {
        return Err(CertificateError::TooMany { count: certificates.len() });
    }
    Ok(Extra { certificates: certificates.into_iter().map(CertificateDer::from).collect(), warnings })
}

/// Those that are not shipped, by their binary form: two PEM texts of one certificate may differ.
fn beyond(host: Vec<CertificateDer<'static>>, shipped: &[CertificateDer<'static>]) -> BTreeSet<Vec<u8>> {
    let shipped: BTreeSet<&[u8]> = shipped.iter().map(|der| &der[..]).collect();
    host.into_iter().map(|der| der.to_vec()).filter(|der| !shipped.contains(&der[..])).collect()
}

/// Every certificate of every file of a folder and its folders; what cannot be read is passed over.
fn read_folder(folder: &Path) -> Vec<CertificateDer<'static>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_dir() && !path.is_symlink() {
            found.extend(read_folder(&path));
        } else if ["crt", "pem", "cer"].contains(&extension) {
            found.extend(read(&path).unwrap_or_default());
        }
    }
    found
}

/// The certificates in a file of PEM text. Keys and broken parts are passed over.
fn read(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::other("it is too large for a file of certificates"));
    }
    let text = fs::read(path)?;
    Ok(CertificateDer::pem_slice_iter(&text).flatten().collect())
}

fn pem(der: &CertificateDer<'_>) -> String {
    let body = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    // Base64 is ASCII: every byte is a character.
    for (index, character) in body.chars().enumerate() {
        if index > 0 && index % PEM_COLUMNS == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

    use super::*;

    fn authority(name: &str) -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        pem(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    struct Host {
        folder: tempfile::TempDir,
        sources: Sources,
    }

    fn host() -> Host {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("shipped")).unwrap();
        fs::create_dir_all(at("admin/deeper")).unwrap();
        let sources = Sources {
            shipped: at("shipped"),
            bundle: at("bundle.crt"),
            admin: vec![at("admin"), at("none")],
            named: vec![],
        };
        Host { folder, sources }
    }

    #[test]
    fn shipped_ones_are_no_news() {
        let host = host();
        let at = |name: &str| host.folder.path().join(name);
        let [known, other, company, deep] = ["known", "other", "company", "deep"].map(authority);
        fs::write(at("shipped/known.crt"), &known).unwrap();
        fs::write(at("shipped/other.crt"), other.replace('\n', "\r\n")).unwrap();
        fs::write(at("bundle.crt"), format!("{known}# a comment\n{other}{company}")).unwrap();
        fs::write(at("admin/company.crt"), &company).unwrap();
        fs::write(at("admin/deeper/deep.pem"), &deep).unwrap();
        fs::write(at("admin/notes.txt"), authority("ignored")).unwrap();
        let extra = collect(&host.sources, &[]).unwrap();
        assert_eq!(extra.len(), 2);
        let texts: BTreeSet<String> = extra.files().map(|(_, text)| String::from_utf8(text).unwrap()).collect();
        assert_eq!(texts, BTreeSet::from([company.replace("\r\n", "\n"), deep.replace("\r\n", "\n")]));
        assert_eq!(extra.files().next().unwrap().0, "host-001.crt");
        assert_eq!(collect(&host.sources, &[]).unwrap(), extra);
    }

    #[test]
    fn a_bundle_without_shipped_ones_is_left_alone() {
        let host = host();
        fs::write(host.folder.path().join("bundle.crt"), authority("the world")).unwrap();
        assert!(collect(&host.sources, &[]).unwrap().is_empty());
    }

    #[test]
    fn given_files_must_hold_certificates() {
        let host = host();
        let at = |name: &str| host.folder.path().join(name);
        fs::write(at("good.pem"), authority("given")).unwrap();
        assert_eq!(collect(&host.sources, &[at("good.pem"), at("good.pem")]).unwrap().len(), 1);
        fs::write(
            at("key.pem"),
            pem(&CertificateDer::from(KeyPair::generate().unwrap().serialize_der()))
                .replace("CERTIFICATE", "PRIVATE KEY"),
        )
        .unwrap();
        fs::write(at("junk.pem"), "-----BEGIN CERTIFICATE-----\naGFsbG8=\n-----END CERTIFICATE-----\n").unwrap();
        for bad in ["key.pem", "junk.pem"] {
            let error = collect(&host.sources, &[at(bad)]).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("PEM"), "{error}");
        }
        let error = collect(&host.sources, &[at("none.pem")]).unwrap_err().to_string();
        assert!(error.contains("none.pem"), "{error}");
    }

    #[test]
    fn what_the_environment_names_and_is_not_there_is_said() {
        let mut host = host();
        host.sources.named = vec![host.folder.path().join("gone.crt")];
        let extra = collect(&host.sources, &[]).unwrap();
        assert!(extra.warnings[0].contains("gone.crt"));
    }
}
