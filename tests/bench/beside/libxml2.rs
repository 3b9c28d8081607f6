//! libxml2, loaded if installed: parses and serialises a text (libxml/parser.h, libxml/tree.h).

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use anyhow::{Result, ensure};
use libloading::{Library, Symbol};

use crate::process::Unavailable;

const NAME: &str = "libxml2.so.2";

type ReadMemory =
    unsafe extern "C" fn(*const c_char, c_int, *const c_char, *const c_char, c_int) -> *mut c_void;
type DumpMemory = unsafe extern "C" fn(*mut c_void, *mut *mut u8, *mut c_int);
type FreeDoc = unsafe extern "C" fn(*mut c_void);
/// `xmlFree` is a variable that holds the function.
type Free = unsafe extern "C" fn(*mut c_void);

/// The library.
pub(crate) struct Libxml2(Library);

impl Libxml2 {
    pub(crate) fn load() -> Result<Self> {
        // SAFETY: libxml2 initialises itself at its first use, and its constructors do nothing else.
        let loaded = unsafe { Library::new(NAME) };
        Ok(Self(loaded.map_err(|_| {
            Unavailable(format!("no '{NAME}': install the package 'libxml2'"))
        })?))
    }

    /// Parses a text, serialises the document, and returns the length of the result.
    pub(crate) fn round(&self, text: &str) -> Result<usize> {
        let length = c_int::try_from(text.len())?;
        // SAFETY: the types are those of libxml2's headers, of every version with this name; the text outlives the
        // document, and what libxml2 allocates is freed by libxml2, once.
        unsafe {
            let read: Symbol<'_, ReadMemory> = self.0.get("xmlReadMemory")?;
            let dump: Symbol<'_, DumpMemory> = self.0.get("xmlDocDumpMemory")?;
            let free_document: Symbol<'_, FreeDoc> = self.0.get("xmlFreeDoc")?;
            let free: Symbol<'_, *const Free> = self.0.get("xmlFree")?;
            let document = read(text.as_ptr().cast(), length, ptr::null(), ptr::null(), 0);
            ensure!(!document.is_null(), "libxml2 cannot parse the definition");
            let (mut written, mut size) = (ptr::null_mut(), 0);
            dump(document, &raw mut written, &raw mut size);
            free_document(document);
            ensure!(
                !written.is_null(),
                "libxml2 cannot serialise the definition"
            );
            (**free)(written.cast());
            Ok(usize::try_from(size)?)
        }
    }
}
