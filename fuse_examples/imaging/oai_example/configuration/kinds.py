"""The kinds of value a setting may take. Scalars are strict: `true` is no number, `2.0` no whole number, `"3"` neither."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import AfterValidator, BeforeValidator, Strict
from pydantic.types import AllowInfNan

from fuse_examples.imaging.oai_example.catalogue import BACKBONES
from fuse_examples.imaging.oai_example.configuration.fold_names import fold_name
from fuse_examples.imaging.oai_example.configuration.wording import Meaning, OneOf, choice, did_you_mean, shown

COVARIATE_TYPES = ("numeric", "categorical")
TARGET_TYPES = ("categorical", "ordinal", "continuous")
Plain = str | int | float | bool | None


def _path(value: Any) -> Any:
    if isinstance(value, str):
        if "://" in value:
            raise ValueError(f"must be a file on this machine, found the URL {shown(value)}; download it first")
        if not value.strip():
            raise ValueError("must be a path, found an empty text; write null for none")
    return value


def _home(value: Path) -> Path:
    try:
        return value.expanduser()
    except RuntimeError:  # ~name of nobody
        raise ValueError(f"names the home folder of a user who does not exist, found {shown(str(value))}") from None


def _folder_name(value: str) -> str:
    if value != value.strip() or not value or value.startswith(".") or not value.isprintable() or set(value) & set('/\\:*?"<>|'):
        raise ValueError(f"must be a plain folder name, without slashes and not starting with a dot, found {shown(value)}")
    return value


def _axis_codes(value: str) -> str:
    codes = value.upper()
    if sorted("RAS".find({"L": "R", "P": "A", "I": "S"}.get(code, code)) for code in codes) != [0, 1, 2]:
        raise ValueError(f"must be three axis codes, one each of R or L, A or P, S or I (for example RAS or PIR), found {shown(value)}")
    return codes


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"must be [low, high], found {shown(value)}")
    return value


def _strictly_rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] == value[1]:
        raise ValueError(f"must be [low, high] with low below high, found {shown(value)}")
    return _rising(value)


def _unique(value: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [item for item in dict.fromkeys(value) if value.count(item) > 1]
    if twice:
        raise ValueError(f"must not name anything twice, found {shown(twice[0])} {value.count(twice[0])} times")
    return value


def _cross_validation(value: Any) -> Any:
    if value == "folds" or (isinstance(value, int) and not isinstance(value, bool) and value >= 3):
        return value
    raise ValueError(f"must be a whole number of at least 3, the word folds or null, found {shown(value)}")


def _class_name(value: Any) -> Any:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


class FrozenDict(dict[str, Any]):
    """A dictionary that refuses changes, for settings whose keys are not known here."""

    def _refuse(self, *_: object, **__: object) -> Any:
        raise TypeError("a configuration does not change after it was loaded")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> tuple[type["FrozenDict"], tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none; this one cannot change
        return hash(tuple(sorted(self.items())))


def _types(value: Mapping[str, str], types: tuple[str, ...] = TARGET_TYPES) -> Mapping[str, str]:
    for column, kind in value.items():
        if kind not in types:
            raise ValueError(f"the type of '{column}' must be {choice(types)}, found {shown(kind)}{did_you_mean(kind, types)}")
    return value


def _covariate_types(value: Mapping[str, str]) -> Mapping[str, str]:
    return _types(value, COVARIATE_TYPES)


def _frozen(value: Mapping[str, Any]) -> FrozenDict:
    return FrozenDict(value)


Flag = Annotated[bool, Strict()]
Positive = Annotated[int, Strict(), Ge(1)]
Count = Annotated[int, Strict(), Ge(0)]
Number = Annotated[float, Strict(), AllowInfNan(False)]
NotNegative = Annotated[float, Strict(), AllowInfNan(False), Ge(0)]
PositiveNumber = Annotated[float, Strict(), AllowInfNan(False), Gt(0)]
Share = Annotated[float, Strict(), AllowInfNan(False), Ge(0), Le(1)]
ShareBelowOne = Annotated[float, Strict(), AllowInfNan(False), Ge(0), Lt(1)]
Percent = Annotated[float, Strict(), AllowInfNan(False), Ge(0), Le(100)]
PositiveShare = Annotated[float, Strict(), AllowInfNan(False), Gt(0), Le(1)]
Text = Annotated[str, Strict(), Len(1), Meaning("text", "texts")]

Auto = Literal["auto"]
AutoPositive = Positive | Auto
AutoCount = Count | Auto
AutoPositiveNumber = PositiveNumber | Auto
AutoShare = Share | Auto

Size = tuple[Positive, Positive, Positive]
Spacing = tuple[PositiveNumber, PositiveNumber, PositiveNumber]
Window = Annotated[tuple[Number, Number], AfterValidator(_strictly_rising)]
Percentiles = Annotated[tuple[Percent, Percent], AfterValidator(_strictly_rising)]
ScaleRange = Annotated[tuple[PositiveNumber, PositiveNumber], AfterValidator(_rising)]
InnerShare = Annotated[float, Strict(), AllowInfNan(False), Gt(0), Lt(1)]
InnerShareRange = Annotated[tuple[InnerShare, InnerShare], AfterValidator(_rising)]
CountRange = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
ShareRange = Annotated[tuple[PositiveShare, PositiveShare], AfterValidator(_rising)]

Folder = Annotated[Path, BeforeValidator(_path), AfterValidator(_home), Meaning("a folder", "folders")]
InputFile = Annotated[Path, BeforeValidator(_path), AfterValidator(_home), Meaning("a file", "files")]
InputFiles = InputFile | Annotated[tuple[InputFile, ...], Len(1), AfterValidator(_unique)]
FolderName = Annotated[str, Strict(), AfterValidator(_folder_name), Meaning("a folder name", "folder names")]
Fold = Annotated[str, BeforeValidator(fold_name), Meaning("a fold", "folds")]
Folds = Annotated[tuple[Fold, ...], AfterValidator(_unique)]
Names = Annotated[tuple[Text, ...], AfterValidator(_unique)]
Columns = Annotated[
    tuple[Text, ...], Len(1), AfterValidator(_unique), Meaning("a list of one or more column names", "lists of column names")
]
Regions = Annotated[
    Mapping[Text, Annotated[tuple[Positive, ...], Len(1), AfterValidator(_unique)]],
    Len(1),
    AfterValidator(_frozen),
    Meaning("a block of 'region: [label, ...]'", "blocks"),
]
ClassWeights = tuple[PositiveNumber, ...]
NamePairs = tuple[Annotated[tuple[Text, Text], Meaning("a pair of names", "pairs of names")], ...]
ClassName = Annotated[str, BeforeValidator(_class_name), Strict()]
ClassOfTarget = Annotated[Mapping[Text, ClassName], AfterValidator(_frozen), Meaning("a block of 'column: class'", "blocks")]
OptionValue = Annotated[bool, Strict()] | Annotated[int, Strict()] | Number | Annotated[str, Strict()]
Options = Annotated[Mapping[Text, OptionValue], AfterValidator(_frozen), Meaning("a block of 'option: value'", "blocks")]
TypeOfCovariate = Annotated[
    Mapping[Text, Text],
    AfterValidator(_covariate_types),
    AfterValidator(_frozen),
    Meaning("a block of 'column: type', each numeric or categorical", "blocks"),
]
TypeOfTarget = Annotated[
    Mapping[Text, Text],
    AfterValidator(_types),
    AfterValidator(_frozen),
    Meaning("a block of 'column: type', each categorical, ordinal or continuous", "blocks"),
]

CrossValidation = Annotated[int | str, BeforeValidator(_cross_validation), Meaning("a whole number of at least 3 or the word folds", "")]

_one_of_the_backbones = OneOf(BACKBONES)
BackboneName = Annotated[str, Strict(), AfterValidator(_one_of_the_backbones.check), _one_of_the_backbones]
AxisCodes = Annotated[str, Strict(), AfterValidator(_axis_codes), Meaning("three axis codes such as RAS", "axis codes")]
Axis = Literal["left_right", "posterior_anterior", "inferior_superior"]
Axes = Annotated[tuple[Axis, ...], AfterValidator(_unique)]
