//! The registry of hypercalls, and the dispatch of a call to its handler and back.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::parameters::{self, Block, Output, Parameters, Shape, Sizes};
use super::{Call, CallCode, Host, HypercallInput, HypercallResult, Registers, SignalEvent};
use crate::host::limited;
use crate::host::panics::caught;
use crate::hyperv::features::Feature;
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::{ConnectionId, Fault, VpIndex};
use crate::memory::GuestMemory;

/// Number of reps per exit. A longer list continues with the next exit (TLFS, "Hypercall Continuation").
const REPS_PER_EXIT: usize = 128;

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The call is complete; the registers hold its result.
    Done(HypercallResult),
    /// The call is incomplete. The registers hold it again, with a new rep start index, and the VP repeats it.
    Continue,
    /// The call raised an exception; the registers are unchanged.
    Fault(Fault),
}

/// A call as a watcher sees it.
#[derive(Debug)]
pub struct Observation<'a> {
    /// The calling VP.
    pub vp: VpIndex,
    /// The input value.
    pub input: HypercallInput,
    /// The input parameters; empty if they could not be read.
    pub parameters: &'a [u8],
    /// The outcome.
    pub outcome: CallOutcome,
}

impl Observation<'_> {
    /// Returns the input header as the type `T`.
    pub fn header<T: FromBytes + KnownLayout + Immutable>(&self) -> Option<T> {
        Some(T::read_from_prefix(self.parameters).ok()?.0)
    }
}

impl fmt::Display for Observation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::hyperv::trace::hypercall(f, self)
    }
}

type Handler = dyn Fn(&Call<'_>, &Parts<'_>, &mut [u8]) -> HvResult<()> + Send + Sync;
type PanicSink = dyn Fn(String, String) + Send + Sync;
type Watcher = dyn Fn(&Observation<'_>) + Send + Sync;

/// The input of one action: the header's two parts, and the list element of a rep call.
struct Parts<'a> {
    header: &'a [u8],
    variable: &'a [u8],
    element: &'a [u8],
}

/// A hypercall that is implemented.
pub struct Definition {
    /// Its code.
    pub code: CallCode,
    /// Its name.
    pub name: Cow<'static, str>,
    /// The feature that the caller must have been offered.
    pub requires: Option<Feature>,
    shape: Shape,
    /// Whether it is not one of [`Hypercalls::standard`].
    own: bool,
    handler: Box<Handler>,
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition").field("code", &self.code).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The implemented calls, and the watchers. A later registration of a code replaces an earlier one.
#[derive(Default)]
pub struct Hypercalls {
    definitions: BTreeMap<CallCode, Definition>,
    watchers: Vec<Box<Watcher>>,
    /// Calls of [`standard`](Self::standard) that were replaced.
    replaced: BTreeSet<CallCode>,
    /// Called with the name of the code that panicked, and the panic's message.
    on_panic: Option<Box<PanicSink>>,
}

/// Reads a header or element. The shape guarantees its size.
fn typed<T: FromBytes>(bytes: &[u8]) -> HvResult<T> {
    Ok(T::read_from_prefix(bytes).map_err(|_| HvStatus::INVALID_HYPERCALL_INPUT)?.0)
}

fn put<T: IntoBytes + Immutable>(value: &T, output: &mut [u8]) {
    output[..size_of::<T>()].copy_from_slice(value.as_bytes());
}

fn qwords(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes).collect()
}

impl Hypercalls {
    /// Creates an empty registry.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// Creates a registry with the calls of the TLFS that Viridian implements.
    pub fn standard() -> Self {
        let mut calls = Self::empty();
        super::handlers::register(&mut calls);
        calls.replaced.clear();
        calls.definitions.values_mut().for_each(|definition| definition.own = false);
        calls
    }

    /// Returns the calls that KVM may still answer itself: those of [`CallCode::ANSWERED_BY_KVM`] for which no user has
    /// registered a handler.
    pub(crate) fn left_to_kvm(&self) -> Vec<CallCode> {
        CallCode::ANSWERED_BY_KVM.into_iter().filter(|code| !self.replaced.contains(code)).collect()
    }

    /// Returns the implemented calls, ordered by code.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = &Definition> {
        self.definitions.values()
    }

    /// Calls `sink` when a handler or watcher panics, with the panic's message. The guest gets
    /// [`HvStatus::OPERATION_FAILED`], and its VP continues.
    pub(crate) fn on_panic(&mut self, sink: impl Fn(String, String) + Send + Sync + 'static) {
        self.on_panic = Some(Box::new(sink));
    }

    fn panicked(&self, what: String, message: String) {
        match &self.on_panic {
            Some(sink) => sink(what, message),
            None => limited::error!("{what} panicked: {message}"),
        }
    }

    /// Calls a handler. If a user's handler panics, the call fails.
    fn handle(&self, definition: &Definition, call: &Call<'_>, parts: &Parts<'_>, output: &mut [u8]) -> HvResult<()> {
        if !definition.own {
            return (definition.handler)(call, parts, output);
        }
        caught(|| (definition.handler)(call, parts, output)).unwrap_or_else(|message| {
            let Definition { code, name, .. } = definition;
            self.panicked(format!("the handler of hypercall {name} ({:#06x})", code.0), message);
            Err(HvStatus::OPERATION_FAILED)
        })
    }

    /// Calls `watcher` for every call that reaches this process, when it is complete. Not visible are the calls that
    /// KVM answers on the kernel engine, and, on both engines, fast signals that reach a connection's eventfd inside
    /// KVM.
    pub fn watch(&mut self, watcher: impl Fn(&Observation<'_>) + Send + Sync + 'static) {
        self.watchers.push(Box::new(watcher));
    }

    /// Registers a simple call with input `I` (`()` for none) and output `O`.
    pub fn simple<I, O>(
        &mut self,
        code: CallCode,
        name: impl Into<Cow<'static, str>>,
        requires: Option<Feature>,
        handler: impl Fn(&Call<'_>, I) -> HvResult<O> + Send + Sync + 'static,
    ) where
        I: FromBytes,
        O: IntoBytes + Immutable,
    {
        let shape = Shape { header: size_of::<I>(), variable: false, output: size_of::<O>(), rep: None };
        self.define(code, name, requires, shape, move |call, parts, output| {
            put(&handler(call, typed(parts.header)?)?, output);
            Ok(())
        });
    }

    /// Registers a simple call whose header `I` can be followed by a variable number of 8-byte values.
    pub fn simple_variable<I, O>(
        &mut self,
        code: CallCode,
        name: impl Into<Cow<'static, str>>,
        requires: Option<Feature>,
        handler: impl Fn(&Call<'_>, I, &[u64]) -> HvResult<O> + Send + Sync + 'static,
    ) where
        I: FromBytes,
        O: IntoBytes + Immutable,
    {
        let shape = Shape { header: size_of::<I>(), variable: true, output: size_of::<O>(), rep: None };
        self.define(code, name, requires, shape, move |call, parts, output| {
            put(&handler(call, typed(parts.header)?, &qwords(parts.variable))?, output);
            Ok(())
        });
    }

    /// Registers a rep call with header `H`. `handler` is called for each input element `E` and returns an output
    /// element `O`.
    pub fn rep<H, E, O>(
        &mut self,
        code: CallCode,
        name: impl Into<Cow<'static, str>>,
        requires: Option<Feature>,
        handler: impl Fn(&Call<'_>, H, E) -> HvResult<O> + Send + Sync + 'static,
    ) where
        H: FromBytes,
        E: FromBytes,
        O: IntoBytes + Immutable,
    {
        let rep = Some((size_of::<E>(), size_of::<O>()));
        let shape = Shape { header: size_of::<H>(), variable: false, output: 0, rep };
        self.define(code, name, requires, shape, move |call, parts, output| {
            put(&handler(call, typed(parts.header)?, typed(parts.element)?)?, output);
            Ok(())
        });
    }

    /// Registers a rep call whose header `H` can be followed by a variable number of 8-byte values.
    pub fn rep_variable<H, E, O>(
        &mut self,
        code: CallCode,
        name: impl Into<Cow<'static, str>>,
        requires: Option<Feature>,
        handler: impl Fn(&Call<'_>, H, &[u64], E) -> HvResult<O> + Send + Sync + 'static,
    ) where
        H: FromBytes,
        E: FromBytes,
        O: IntoBytes + Immutable,
    {
        let rep = Some((size_of::<E>(), size_of::<O>()));
        let shape = Shape { header: size_of::<H>(), variable: true, output: 0, rep };
        self.define(code, name, requires, shape, move |call, parts, output| {
            put(&handler(call, typed(parts.header)?, &qwords(parts.variable), typed(parts.element)?)?, output);
            Ok(())
        });
    }

    fn define(
        &mut self,
        code: CallCode,
        name: impl Into<Cow<'static, str>>,
        requires: Option<Feature>,
        shape: Shape,
        handler: impl Fn(&Call<'_>, &Parts<'_>, &mut [u8]) -> HvResult<()> + Send + Sync + 'static,
    ) {
        let definition = Definition { code, name: name.into(), requires, shape, own: true, handler: Box::new(handler) };
        self.definitions.insert(code, definition);
        self.replaced.insert(code);
    }

    /// Returns `true` if a call uses XMM registers, so that [`Registers::xmm`] must be filled before it is dispatched.
    pub(crate) fn needs_xmm(&self, registers: &Registers) -> bool {
        let input = registers.input();
        input.fast()
            && self
                .definitions
                .get(&input.code())
                .and_then(|definition| definition.shape.sizes(input).ok())
                .is_some_and(|sizes| parameters::input_needs_xmm(sizes) || sizes.output > 0)
    }

    /// Answers the call that `vp` has made.
    pub(crate) fn dispatch(
        &self,
        vp: VpIndex,
        host: &dyn Host,
        memory: &GuestMemory,
        registers: &mut Registers,
    ) -> CallOutcome {
        let input = registers.input();
        let mut seen = Block::new();
        let outcome = if registers.mode.may_call() && host.guest_os_id() != 0 {
            self.answer(Call { code: input.code(), vp, host }, memory, registers, &mut seen)
        } else {
            CallOutcome::Fault(Fault::UndefinedOpcode)
        };
        match outcome {
            CallOutcome::Done(result) => registers.set_result(result),
            CallOutcome::Continue | CallOutcome::Fault(_) => {}
        }
        self.show(&Observation { vp, input, parameters: &seen, outcome });
        outcome
    }

    /// Handles a doorbell write for a connection that has no eventfd.
    pub(crate) fn doorbell(&self, vp: VpIndex, host: &dyn Host, connection: u32) -> HvStatus {
        let input = HypercallInput::new(CallCode::SIGNAL_EVENT).with_fast();
        let parameters = SignalEvent { connection_id: ConnectionId(connection), flag_number: 0, reserved: 0 };
        let status = match self.definitions.get(&input.code()) {
            None => HvStatus::INVALID_HYPERCALL_CODE,
            Some(definition) if !is_allowed(definition, host) => HvStatus::ACCESS_DENIED,
            Some(definition) => {
                let parts = Parts { header: parameters.as_bytes(), variable: &[], element: &[] };
                self.handle(definition, &Call { code: input.code(), vp, host }, &parts, &mut []).into()
            }
        };
        let outcome = CallOutcome::Done(status.into());
        self.show(&Observation { vp, input, parameters: parameters.as_bytes(), outcome });
        status
    }

    fn show(&self, observation: &Observation<'_>) {
        for watcher in &self.watchers {
            if let Err(message) = caught(|| watcher(observation)) {
                self.panicked("a watcher of hypercalls".into(), message);
            }
        }
    }

    /// Runs the checks that need no memory first; privilege comes first, as the TLFS prefers.
    fn answer(&self, call: Call<'_>, memory: &GuestMemory, registers: &mut Registers, seen: &mut Block) -> CallOutcome {
        let done = |status: HvStatus| CallOutcome::Done(status.into());
        let input = registers.input();
        let definition = self.definitions.get(&call.code);
        if definition.is_some_and(|definition| !is_allowed(definition, call.host)) {
            return done(HvStatus::ACCESS_DENIED);
        }
        if !input.is_well_formed() {
            return done(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        let Some(definition) = definition else { return done(HvStatus::INVALID_HYPERCALL_CODE) };
        let sizes = match definition.shape.sizes(input) {
            Ok(sizes) => sizes,
            Err(status) => return done(status),
        };
        let read = if input.fast() {
            if !may_use_xmm(sizes, registers, call.host) {
                return CallOutcome::Fault(Fault::UndefinedOpcode);
            }
            parameters::read_fast(registers, sizes)
        } else {
            parameters::read_memory(memory, registers, sizes)
        };
        let parameters = match read {
            Ok(parameters) => parameters,
            Err(status) => return done(status),
        };
        let outcome = match definition.shape.rep {
            None => self.run_once(definition, &call, &parameters, memory, registers),
            Some(element) => self.run_reps(definition, &call, element, &parameters, memory, registers),
        };
        *seen = parameters.input;
        outcome
    }
}

impl<'a> Parts<'a> {
    /// Returns the parts for element `index` of a list with elements of this size.
    fn of(input: &'a [u8], sizes: Sizes, index: usize, element: usize) -> Self {
        let (header, rest) = input.split_at(sizes.header);
        let (variable, list) = rest.split_at(sizes.variable);
        Self { header, variable, element: &list[index * element..(index + 1) * element] }
    }
}

impl Hypercalls {
    /// Runs a simple call.
    fn run_once(
        &self,
        definition: &Definition,
        call: &Call<'_>,
        parameters: &Parameters,
        memory: &GuestMemory,
        registers: &mut Registers,
    ) -> CallOutcome {
        let mut output = Block::from_elem(0, parameters.sizes.output);
        let parts = Parts::of(&parameters.input, parameters.sizes, 0, 0);
        let result = self.handle(definition, call, &parts, &mut output);
        if result.is_ok() {
            write(parameters.output, 0, &output, memory, registers);
        }
        CallOutcome::Done(HvStatus::from(result).into())
    }

    /// Processes the elements of a list in order, starting at the start index.
    fn run_reps(
        &self,
        definition: &Definition,
        call: &Call<'_>,
        (element_in, element_out): (usize, usize),
        parameters: &Parameters,
        memory: &GuestMemory,
        registers: &mut Registers,
    ) -> CallOutcome {
        let input = registers.input();
        let (start, count) = (input.rep_start(), input.rep_count());
        let end = count.min(start + REPS_PER_EXIT);
        let mut output = Block::from_elem(0, (end - start) * element_out);
        let mut status = HvStatus::SUCCESS;
        let mut completed = start;
        while completed < end && status == HvStatus::SUCCESS {
            let parts = Parts::of(&parameters.input, parameters.sizes, completed, element_in);
            let at = (completed - start) * element_out;
            match self.handle(definition, call, &parts, &mut output[at..at + element_out]) {
                Ok(()) => completed += 1,
                Err(error) => status = error,
            }
        }
        write(parameters.output, start * element_out, &output[..(completed - start) * element_out], memory, registers);
        if registers.mode.long || status == HvStatus::SUCCESS && completed < count {
            registers.set_input(input.with_rep_start(completed));
        }
        if status == HvStatus::SUCCESS && completed < count {
            CallOutcome::Continue
        } else {
            CallOutcome::Done(HypercallResult { status, reps_completed: completed })
        }
    }
}

fn is_allowed(definition: &Definition, host: &dyn Host) -> bool {
    definition.requires.is_none_or(|feature| host.features().has(feature))
}

/// Fast parameters beyond two registers need one feature for input and another for output. Output also requires a
/// 64-bit caller.
fn may_use_xmm(sizes: Sizes, registers: &Registers, host: &dyn Host) -> bool {
    let features = host.features();
    let input = !parameters::input_needs_xmm(sizes) || features.has(Feature::XmmRegistersForFastHypercallAvailable);
    let output = sizes.output == 0 || registers.mode.long && features.has(Feature::FastHypercallOutputAvailable);
    input && output
}

/// Writes output at `offset` bytes behind the start of the output parameters.
fn write(place: Output, offset: usize, output: &[u8], memory: &GuestMemory, registers: &mut Registers) {
    if output.is_empty() {
        return;
    }
    match place {
        // The whole range has been checked.
        Output::Memory(gpa) => {
            let _ = memory.write_slice(output, GuestAddress(gpa + offset as u64));
        }
        Output::Fast(at) => registers.set_fast_output(at + offset, output),
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
