//! Read-only access to the records: sets nothing aside, migrates nothing and logs nothing.

use super::*;

/// The state of a file.
#[derive(Debug)]
pub enum Peeked {
    /// Valid; a file of an older version names several devices.
    Good(Vec<DeviceRecord>),
    /// Damaged, with the reason.
    Damaged(String),
    /// A newer variantd wrote it.
    Newer(u32),
    /// Unreadable, with the reason.
    Hidden(io::Error),
}

/// All records below `run` by file, including files of an older version that are not migrated yet.
///
/// # Errors
/// A directory cannot be listed.
pub fn all(run: &Path) -> io::Result<Vec<(String, Peeked)>> {
    let mut all = Vec::new();
    for path in files(&Files, &run.join(DIRECTORY))? {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let device = stem.and_then(|stem| stem.parse().ok());
        let parse = |bytes: &[u8]| match device {
            Some(device) => text::read(bytes, device).map(|record| vec![record]),
            None => Err(Unusable::Damaged("its name is not a PCI address".into())),
        };
        all.extend(one(&path, parse));
    }
    for (path, parse) in migrate::older(run)? {
        all.extend(one(&path, |bytes| {
            parse(&path, bytes).map_err(Unusable::Damaged)
        }));
    }
    Ok(all)
}

/// The name of a domain that has the device.
///
/// # Errors
/// A file that may name the device cannot be read.
pub fn holder(run: &Path, device: PciAddress) -> Result<Option<String>, RecordError> {
    let all = all(run).map_err(|why| failed("list", run, why))?;
    for (path, peeked) in all {
        // The owner in a newer record may have another form, but its file name is the device.
        let is_its = Path::new(&path).file_stem() == Some(device.to_string().as_ref());
        let path = Path::new(&path);
        match peeked {
            Peeked::Good(records) => {
                let of_domain = |one: DeviceRecord| one.domain.filter(|_| one.device == device);
                if let Some(of) = records.into_iter().find_map(of_domain) {
                    return Ok(Some(of.domain.name));
                }
            }
            Peeked::Newer(version) if is_its => return Err(newer(path, version)),
            Peeked::Hidden(why) if !is_no_file(&why) => return Err(failed("read", path, why)),
            _ => {}
        }
    }
    Ok(None)
}

fn one(
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<Vec<DeviceRecord>, Unusable>,
) -> Option<(String, Peeked)> {
    let peeked = match Files.read(path, LIMIT + 1).transpose()? {
        Err(why) => Peeked::Hidden(why),
        Ok(bytes) => match parse(&bytes) {
            Ok(records) => Peeked::Good(records),
            Err(Unusable::Damaged(why)) => Peeked::Damaged(why),
            Err(Unusable::Newer(version)) => Peeked::Newer(version),
        },
    };
    Some((path.display().to_string(), peeked))
}
