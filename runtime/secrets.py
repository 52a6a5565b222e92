"""Where references lead: the contract of secrets backends, and settings with references resolved.

Providers never see a reference. The connection's actor resolves them on every episode, so that a
mended secret heals the connection without a restart; `rotation` looks at them meanwhile.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from ..errors import SecretUnavailable, SettingsError, SettingsProblem
from ..providers.references import SecretReference, references
from .validation import find_faults, hider

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    Observer = Callable[[str, str], None]
    Found = Mapping[SecretReference, SecretStr | SecretUnavailable]

ModelT = TypeVar("ModelT", bound=BaseModel)


class SecretsBackend(ABC):
    """Finds the values that references stand for.

    Subclass it, and offer the class as an entry point of the group `moorings.secrets_backends`.
    Everything runs on trio, whatever the application's loop is, is bounded by the runtime, and may
    be cancelled at any time: blocking work belongs into threads that may be abandoned.

    Attributes:
        name: the key in `security.secrets.backend`; the label `provider` of the metric.
        settings_model: validates the table `security.secrets.provider`. What is a secret in it is
            a `SecretStr`.
        refresh: how often to look for other values while connections use them, in seconds;
            `math.inf`: never, they cannot change.
    """

    name: ClassVar[str]
    settings_model: ClassVar[type[BaseModel]]
    refresh: float = math.inf

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Any) -> Self:
        """A backend that goes by `settings`, an instance of `settings_model`. No I/O."""

    @abstractmethod
    async def resolve(self, path: str, key: str) -> SecretStr:
        """The present value of `key` at `path`.

        Raises:
            SecretUnavailable: there is none, or it cannot be used; never shows a value.
        """

    async def resolve_all(self, wanted: Collection[SecretReference]) -> Found:
        """The present value of each reference, or the error that `resolve` would raise.

        Override it where several are found more cheaply, or more consistently, at once.
        """
        return {reference: await self._resolved(reference) for reference in wanted}

    async def _resolved(self, reference: SecretReference) -> SecretStr | SecretUnavailable:
        try:
            return await self.resolve(reference.path, reference.key)
        except SecretUnavailable as error:
            return error

    def close(self) -> None:  # noqa: B027 - optional: most hold nothing
        """Let go of what is held. Called once, at the end or when another one takes over.

        Must not block. What is still under way may fail from then on.
        """


def refused(path: str, key: str, base: str) -> SecretUnavailable:
    """The error for a reference that leads out of where secrets are."""
    return SecretUnavailable(
        path,
        key,
        f"the reference leads out of {base}",
        "Write path and key relative to it, without '..'",
    )


async def resolve_settings(
    settings: ModelT, secrets: SecretsBackend, *, observe: Observer | None = None
) -> ModelT:
    """`settings` with every reference replaced by its secret, validated once more.

    Runs on trio, may be cancelled at any time, and is a checkpoint if there are references. It
    has no bound of its own: the caller chooses one.

    Args:
        settings: a provider's settings; references are looked for in its own fields.
        secrets: where to find them.
        observe: called with the backend's name and "ok" or "error" for each resolution.

    Returns:
        The very same object when it holds no references.

    Raises:
        SecretUnavailable: a reference leads nowhere.
        SettingsError: the provider's model refuses what was found.
    """
    wanted = references(settings)
    if not wanted:
        return settings
    found = await find_secrets(frozenset(wanted.values()), secrets, observe=observe)
    return substituted(settings, found, secrets.name)


async def find_secrets(
    wanted: Collection[SecretReference], secrets: SecretsBackend, *, observe: Observer | None = None
) -> Found:
    """What each reference leads to, or why it leads nowhere; arguments as `resolve_settings`.

    A backend's bug is an error of each reference. Cancellation counts as an error of each, too.
    """
    found: Found = {}
    try:
        found = _checked(await secrets.resolve_all(wanted), wanted)
    except Exception as error:  # noqa: BLE001 - somebody else's code, which talks to a service
        found = {reference: _failed(reference, secrets.name, error) for reference in wanted}
    finally:
        if observe is not None:
            for reference in wanted:
                ok = isinstance(found.get(reference), SecretStr)
                observe(secrets.name, "ok" if ok else "error")
    return found


def _checked(found: Found, wanted: Collection[SecretReference]) -> Found:
    """An answer to each, of the right type: whoever asks relies on it, the watch among them."""
    checked = {reference: found[reference] for reference in wanted}
    for value in checked.values():
        if not isinstance(value, SecretStr | SecretUnavailable):
            raise TypeError(type(value).__name__)  # its name at most: it may be the secret
    return checked


def _failed(reference: SecretReference, backend: str, error: Exception) -> SecretUnavailable:
    # Neither its text nor its traceback, which may show what it has found so far.
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    at = f" at {frames.tb_frame.f_code.co_filename}:{frames.tb_lineno}" if frames else ""
    return SecretUnavailable(
        reference.path,
        reference.key,
        f"the secrets backend {backend!r} failed with {type(error).__name__}{at}",
        "Tell its author",
    )


def substituted(settings: ModelT, found: Found, backend: str) -> ModelT:
    """`settings` with `found` in place of the references; errors as `resolve_settings`."""
    resolved: dict[str, SecretStr] = {}
    for name, reference in references(settings).items():
        value = found[reference]
        if isinstance(value, SecretUnavailable):
            raise value
        resolved[name] = value
    return _revalidated(settings, resolved, backend)


def _revalidated(settings: ModelT, resolved: dict[str, SecretStr], backend: str) -> ModelT:
    model = type(settings)
    values = {name: getattr(settings, name) for name in settings.model_fields_set} | resolved
    try:
        return model.model_validate(
            {model.model_fields[name].alias or name: value for name, value in values.items()}
        )
    except ValidationError as error:
        found = find_faults(model, error, hider(values))
    # Raised outside of the handler: a chained ValidationError carries the secrets.
    raise SettingsError(
        *(
            SettingsProblem(
                file=f"secrets backend {backend!r}",
                layer="",
                key=".".join(("provider", *fault.path)),
                problem=f"{fault.problem}, now that its references are resolved",
                cure="Store a usable value, or mend the reference",
            )
            for fault in found
        )
    )
