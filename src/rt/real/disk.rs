//! The machine's files.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::thread;

/// The file systems of this machine.
#[derive(Clone, Debug)]
pub struct Disk {
    _private: (),
}

/// An open file. Clones share it.
#[derive(Clone, Debug)]
pub struct File {
    file: Arc<fs::File>,
}

/// Runs a file operation: in place on a lane, on the blocking pool elsewhere.
async fn blocking<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    if thread::on_lane() {
        return work();
    }
    super::cpu::run(work).await
}

impl Disk {
    /// Returns the file systems of this machine.
    pub fn real() -> Disk {
        Disk { _private: () }
    }

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// Those of the operating system; `NotFound` if the file does not exist.
    pub async fn open(&self, path: &Path) -> io::Result<File> {
        let path = path.to_owned();
        blocking(move || {
            let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
            Ok(File { file: Arc::new(file) })
        })
        .await
    }

    /// Creates a file, which must not exist yet. Its name is durable only after [`Disk::sync_dir`] of its directory.
    ///
    /// # Errors
    /// Those of the operating system; `AlreadyExists` if the file exists.
    pub async fn create(&self, path: &Path) -> io::Result<File> {
        let path = path.to_owned();
        blocking(move || {
            let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(path)?;
            Ok(File { file: Arc::new(file) })
        })
        .await
    }

    /// Creates a directory and any missing parents.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::create_dir_all(path)).await
    }

    /// Returns the names in a directory, sorted.
    ///
    /// # Errors
    /// Those of the operating system; `NotFound` if there is no such directory.
    pub async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let path: PathBuf = path.to_owned();
        blocking(move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        })
        .await
    }

    /// Renames a file, replacing any file at the new name. Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || fs::rename(from, to)).await
    }

    /// Removes a file. Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_file(path)).await
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Those of the operating system. After an error the names' durability is unknown: do not retry, stop.
    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::File::open(path)?.sync_all()).await
    }

    /// Returns the capacity and the available space of the file system that holds `path`, in bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        let path = path.to_owned();
        blocking(move || {
            let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
            // SAFETY: statvfs is plain data, for which zeroes are a valid value.
            let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
            // SAFETY: `name` is NUL-terminated and `stat` is valid for writing the result; both outlive the call.
            if unsafe { libc::statvfs(name.as_ptr(), &mut stat) } != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
        })
        .await
    }
}

impl File {
    /// Reads `len` bytes at `offset`; fewer if the file ends first.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = self.file.clone();
        blocking(move || {
            let mut buffer = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            buffer.truncate(filled);
            Ok(Bytes::from(buffer))
        })
        .await
    }

    /// Writes all of `data` at `offset`, growing the file if necessary. Not durable before [`File::sync`].
    ///
    /// # Errors
    /// Those of the operating system (`StorageFull`, …). It is unknown how much was written before the error.
    pub async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || file.write_all_at(&data, offset)).await
    }

    /// Makes everything written before the call durable, including the file's length (fdatasync).
    ///
    /// # Errors
    /// Those of the operating system. After an error, nothing written since the last success may be assumed to be
    /// durable, now or after a later call: stop.
    pub async fn sync(&self) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || file.sync_data()).await
    }

    /// Returns the file's length in bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn len(&self) -> io::Result<u64> {
        let file = self.file.clone();
        blocking(move || Ok(file.metadata()?.len())).await
    }

    /// Truncates the file, or extends it with zeros.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || file.set_len(len)).await
    }

    /// Makes the file at least `len` bytes long, with disk space allocated for all of it.
    ///
    /// # Errors
    /// Those of the operating system (`StorageFull`).
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || {
            let len = libc::off_t::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            // SAFETY: the descriptor is open for the length of the call.
            match unsafe { libc::posix_fallocate(std::os::fd::AsRawFd::as_raw_fd(&*file), 0, len) } {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        })
        .await
    }
}
