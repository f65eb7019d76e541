//! The files of a command, each with what it is used for, so that none is used for two things.

use std::ffi::OsStr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use zim_batch::files::{self, identity, same_file};
use zim_batch::journal::files_of_runs;

use crate::cli::errors::{Error, redact};
use crate::cli::settings::secret;

/// What a command uses a file for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Settings come from it: the secret, certificates, or profiles.
    Settings,
    /// It is read. Its content is named in messages: `rows` or `users`.
    Input(&'static str),
    /// A run keeps it, or has read it, whose report is read.
    OfRun,
    /// A result that a later run reads. A flag chooses it, and by default it is named after another file.
    Result { name: &'static str, flag: &'static str },
    /// This flag chooses it.
    Other(&'static str),
}

/// The files that a command reads and writes.
#[derive(Debug, Default)]
pub struct Files(Vec<(Role, PathBuf)>);

impl Files {
    /// Adds a file, unless the command already uses it for something else.
    pub fn add(&mut self, role: Role, path: &Path) -> Result<(), Error> {
        // A device has no content to lose: /dev/null may have several uses.
        let is_same = |other: &Path| same_file(other, path) && !is_device(path);
        if let Some(&(earlier, _)) = self.0.iter().find(|(_, other)| is_same(other)) {
            return Err(Error::Usage(conflict(earlier, role, path)));
        }
        if let Role::Result { flag, .. } | Role::Other(flag) = role {
            refuse_secret(path, flag)?;
        }
        if let Role::Result { name, flag } = role {
            refuse_redirected(path, flag)?;
            refuse_compressed(path, name, flag)?;
        }
        self.0.push((role, path.to_owned()));
        Ok(())
    }

    /// Adds files that settings come from. One may have several settings.
    pub fn add_settings(&mut self, paths: &[PathBuf]) {
        self.0.extend(paths.iter().map(|path| (Role::Settings, path.clone())));
    }

    /// Adds a file that is only read, which may be read twice. `-` is standard input.
    pub fn add_read_only(&mut self, path: &Path) {
        if path.as_os_str() != "-" {
            self.0.push((Role::Input("report or rows"), path.to_owned()));
        }
    }

    /// Adds the files that belong to the runs of a report.
    pub fn add_of_runs(&mut self, report: &Path) {
        if report.as_os_str() != "-" {
            self.0
                .extend(files_of_runs(report).into_iter().map(|path| (Role::OfRun, path)));
        }
    }

    /// Adds the file that a flag chooses, if it was given.
    pub fn add_of_flag(&mut self, flag: &'static str, path: Option<&Path>) -> Result<(), Error> {
        path.map_or(Ok(()), |path| self.add(Role::Other(flag), path))
    }

    /// The file of this flag, if there is one, and it is used for nothing else.
    pub fn of_flag(&self, flag: &str) -> Option<&Path> {
        let of_flag = |role| matches!(role, Role::Other(other) if other == flag);
        let found = self.0.iter().find(|(role, _)| of_flag(*role));
        found.map(|(_, path)| path.as_path())
    }
}

/// Why a file can't be used as `new`: it is used as `earlier`.
fn conflict(earlier: Role, new: Role, path: &Path) -> String {
    let shown = match earlier {
        Role::Settings => secret::place(path),
        _ => path.display().to_string(),
    };
    match (earlier, new) {
        (Role::Settings, Role::Other(flag)) => format!(
            "{flag} {shown}: this command already uses the file, which contains the secret or other settings; choose another one"
        ),
        (Role::Settings, _) => format!(
            "{shown}: this file contains the secret or other settings; it can't be an input or an output; choose another file"
        ),
        (Role::Input(items), Role::Result { flag, .. }) => {
            format!(
                "{shown}: this file contains the {items} and can't be an output too; choose another one with {flag} FILE"
            )
        }
        (Role::Result { name: one, .. }, Role::Result { name: other, flag }) => {
            format!("{shown}: the {one} and the {other} can't be the same file; choose another one with {flag} FILE")
        }
        (Role::OfRun, Role::Other(flag)) => format!(
            "{flag} {shown}: this file belongs to a run whose report is read, and would be lost; choose another one"
        ),
        (_, Role::Other(flag)) => {
            format!("{flag} {shown}: this command already uses the file for something else; choose another one")
        }
        _ => format!("{shown}: this command already uses the file for something else; choose another one"),
    }
}

/// Refuses a result that standard output or standard error is redirected to.
fn refuse_redirected(path: &Path, flag: &str) -> Result<(), Error> {
    for (stream, name) in [("/dev/stdout", "standard output"), ("/dev/stderr", "standard error")] {
        if identity(Path::new(stream)).is_some_and(|stream| Some(stream) == identity(path)) {
            return Err(Error::Usage(format!(
                "{}: {name} is redirected to this file, so the two would mix; choose another one with {flag} FILE",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Refuses to create a file that is named like the secret: its name would be shown.
fn refuse_secret(path: &Path, flag: &str) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if redact::is_like_secret(&name) && !path.exists() {
        return Err(Error::Usage(format!("{flag} {}", redact::LIKE_SECRET)));
    }
    Ok(())
}

/// Refuses a result whose name says that it is compressed: it would not be.
fn refuse_compressed(path: &Path, name: &str, flag: &str) -> Result<(), Error> {
    match path.extension().and_then(OsStr::to_str) {
        Some("gz" | "zst" | "xz" | "bz2" | "zip") => Err(Error::Usage(format!(
            "{}: the {name} is written as plain CSV, not compressed; choose a file that ends with .csv with {flag} FILE",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Refuses a file of `flag` that can't be replaced as a whole: see [`files::check_target`].
pub fn check_target(flag: &str, path: &Path, begins_with: &str) -> Result<(), Error> {
    files::check_target(path, begins_with, []).map_err(|why| Error::Usage(format!("{flag} {}: {why}", path.display())))
}

fn is_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.file_type().is_char_device())
}

/// Whether it is a named pipe. A shell's anonymous pipe has a path only in /dev and /proc.
pub fn is_named_pipe(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) && path.canonicalize().is_ok()
}
