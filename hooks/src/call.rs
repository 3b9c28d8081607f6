//! The arguments with which libvirt calls the hook: `<domain> <operation> <sub-operation> <extra>`.
//!
//! Follows docs/hooks.rst, section "/etc/libvirt/hooks/qemu".

/// One run of the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The domain's name.
    pub domain: String,
    /// The operation; `None` for one that the agent does not handle.
    pub operation: Option<Operation>,
    /// libvirt's last argument: since 10.5 the reason at `release`, otherwise `-`.
    pub extra: String,
}

/// The operations that the agent handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Before libvirt changes anything; may veto.
    Prepare,
    /// After libvirt's own device work, before QEMU runs; may veto.
    Start,
    /// QEMU runs.
    Started,
    /// QEMU is gone, labels are not yet restored.
    Stopped,
    /// libvirt has released all resources of the guest.
    Release,
    /// The daemon found a running guest after its own restart; a failure kills the guest.
    Reconnect,
    /// Incoming migration: output replaces the XML.
    Migrate,
    /// Restore from a saved image: output replaces the XML.
    Restore,
}

impl Call {
    /// Reads libvirt's arguments; a missing one counts as empty.
    pub fn from_arguments(arguments: impl Iterator<Item = String>) -> Self {
        let mut arguments = arguments;
        let mut next = || arguments.next().unwrap_or_default();
        let domain = next();
        let operation = Operation::parse(&next(), &next());
        Self {
            domain,
            operation,
            extra: next(),
        }
    }
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Prepare,
        Self::Start,
        Self::Started,
        Self::Stopped,
        Self::Release,
        Self::Reconnect,
        Self::Migrate,
        Self::Restore,
    ];

    /// Reads libvirt's second and third argument; `None` for an operation that the agent does not handle.
    #[must_use]
    pub fn parse(operation: &str, sub: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| (known.word(), known.sub()) == (operation, sub))
    }

    /// libvirt's third argument.
    #[must_use]
    pub fn sub(self) -> &'static str {
        match self {
            Self::Stopped | Self::Release => "end",
            _ => "begin",
        }
    }

    /// libvirt's second argument.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Start => "start",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Release => "release",
            Self::Reconnect => "reconnect",
            Self::Migrate => "migrate",
            Self::Restore => "restore",
        }
    }

    /// True where a failure of the hook keeps the guest from running and does no other harm.
    #[must_use]
    pub fn can_veto(self) -> bool {
        matches!(
            self,
            Self::Prepare | Self::Start | Self::Migrate | Self::Restore
        )
    }

    /// True where libvirt kills the running guest when the hook fails (qemuProcessReconnect, qemuProcessLaunch).
    #[must_use]
    pub fn can_kill(self) -> bool {
        matches!(self, Self::Started | Self::Reconnect)
    }

    /// True where output replaces the XML.
    #[must_use]
    pub fn rewrites(self) -> bool {
        matches!(self, Self::Migrate | Self::Restore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &[&str]) -> Call {
        Call::from_arguments(arguments.iter().map(|&a| a.to_owned()))
    }

    #[test]
    fn from_arguments_reads_the_documented_arguments() {
        let release = call(&["d0", "release", "end", "destroyed"]);
        assert_eq!(release.domain, "d0");
        assert_eq!(release.operation, Some(Operation::Release));
        assert_eq!(release.extra, "destroyed");
    }

    #[test]
    fn from_arguments_ignores_other_operations() {
        for other in [
            &["d0", "attach", "begin", "-"][..],
            &["d0", "prepare", "end", "-"],
            &["d0"],
            &[],
        ] {
            assert_eq!(call(other).operation, None, "{other:?}");
        }
    }

    #[test]
    fn only_operations_before_the_start_can_veto() {
        assert!(Operation::Prepare.can_veto());
        assert!(!Operation::Reconnect.can_veto());
        assert!(!Operation::Started.can_veto());
        assert!(!Operation::Release.can_veto());
    }
}
