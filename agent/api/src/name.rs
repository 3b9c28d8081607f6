//! The agent's names on the bus: its service, objects, interfaces and errors.

/// The bus name.
pub const SERVICE: &str = "org.variantd1";
/// The manager's object.
pub const MANAGER: &str = "/org/variantd1";
/// The prefix of each device's object path.
pub const DEVICES: &str = "/org/variantd1/device/";
/// The prefix of each job's object path; not below the manager's, which lists all objects below it to every client.
pub const JOBS: &str = "/org/variantd1_job/";

/// The interface of [`MANAGER`].
pub const MANAGER_INTERFACE: &str = "org.variantd1.Manager";
/// The interface of an object below [`DEVICES`].
pub const DEVICE_INTERFACE: &str = "org.variantd1.Device";
/// The interface of an object below [`JOBS`].
pub const JOB_INTERFACE: &str = "org.variantd1.Job";

/// The prefix of the agent's error names.
pub const ERROR: &str = "org.variantd1.Error.";
