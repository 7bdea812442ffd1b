"""A DICOM structured report of one patient (TID 1500, Measurement Report), made with highdicom.

One group holds the stage: its probabilities, status, reasons and caveats. One holds the signs. Each organ of each
sequence has a group with its measurements, which refers to the segment in the segmentation object. All refer to the
source images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cirrnb.archive import codes
from cirrnb.archive.findings import Findings, ModelFacts
from cirrnb.data.atomic_files import atomic_file

DESCRIPTION = "cirrnb, research only: measurements and stage"
_MRI = ("25056-3", "LN", "MRI unspecified body region")
_AI = ("123109", "DCM", "Artificial Intelligence")


def write_report(
    path: Path,
    findings: Findings,
    sources: Mapping[str, Sequence[Any]],
    segmentations: Mapping[str, Path],
    *,
    uids: tuple[str, str],
    series_number: int,
) -> Path:
    """Write the structured report of a patient, atomically.

    Parameters
    ----------
    sources : sequence -> headers of its images, as `cirrnb.data.dicom.conversion.source_headers` reads them. Patient
        and study are those of the first.
    segmentations : sequence -> file of its segmentation object; sequences without one are absent.
    uids : SeriesInstanceUID and SOPInstanceUID of the report.

    Raises ValueError or AttributeError where the source images lack what DICOM requires of a report.
    """
    import highdicom
    from highdicom import sr

    images = [image for headers in sources.values() for image in headers]
    objects = {name: highdicom.seg.segread(file) for name, file in segmentations.items()}
    groups = [_stage(findings, images, uids[1])]
    if findings.signs:
        groups.append(_signs(findings, uids[1]))
    for sequence, rows in findings.measurements.items():
        groups += _organs(sequence, rows, objects.get(sequence), sources.get(sequence, ()), findings.model, uids[1])
    content = sr.MeasurementReport(
        observation_context=_observer(findings.model),
        procedure_reported=_code(_MRI),
        imaging_measurements=groups,
    )
    report = sr.ComprehensiveSR(
        evidence=[*images, *objects.values()],
        content=content[0],
        series_instance_uid=uids[0],
        series_number=series_number,
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer="cirrnb",
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    report.SeriesDescription = DESCRIPTION
    report.ManufacturerModelName, report.SoftwareVersions = "cirrnb", findings.model.version
    report.DeviceSerialNumber = "none"
    with atomic_file(path) as partial:
        report.save_as(partial)
    return path


def _code(code: codes.Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(*code)


def _observer(model: ModelFacts) -> Any:
    from highdicom import sr
    from pydicom.uid import generate_uid

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["cirrnb", model.version, model.fingerprint]),
        name="cirrnb",
        manufacturer_name="cirrnb",
        model_name=f"{model.name}, fingerprint {model.fingerprint}",
        serial_number=model.version,
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(_code(("121007", "DCM", "Device")), device))


def _algorithm(model: ModelFacts) -> Any:
    from highdicom import sr

    parameters = [f"model={model.name}; fingerprint={model.fingerprint}"]  # one: some readers keep no second
    return sr.AlgorithmIdentification(f"cirrnb stager {model.name}", model.version, parameters, _code(_AI))


def _tracking(report: str, name: str) -> Any:
    from highdicom import sr
    from pydicom.uid import generate_uid

    return sr.TrackingIdentifier(generate_uid(entropy_srcs=[report, name]), name)


def _number(code: codes.Code, value: float, unit: str = "") -> Any:
    from highdicom import sr

    return sr.Measurement(_code(code), float(value), _code(codes.UNITS[unit]))


def _evaluation(name: codes.Code, value: codes.Code) -> Any:
    from highdicom import sr

    return sr.QualitativeEvaluation(_code(name), _code(value))


def _with_comments(group: Any, texts: Iterable[str]) -> Any:
    """The group with comments at its end: templates for measurements have no text of their own and may be extended."""
    from highdicom import sr

    for text in texts:
        item = sr.TextContentItem(_code(codes.COMMENT), text, sr.RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(item)
    return group


def _referred(images: Sequence[Any]) -> list[Any]:
    from highdicom import sr

    return [sr.SourceImageForMeasurementGroup.from_source_image(image) for image in images]


def _stage(findings: Findings, images: Sequence[Any], report: str) -> Any:
    """The stage with its caveats, or why there is none."""
    from highdicom import sr

    evaluations = [_evaluation(codes.STATUS, codes.STATUSES[findings.status])]
    if findings.stage is not None:
        evaluations.append(_evaluation(codes.STAGE, codes.private_code(findings.stage)))
    evaluations += [_evaluation(codes.SET, codes.private_code(stage)) for stage in findings.possible]
    evaluations += [
        _evaluation(codes.REASON, codes.private_code(code))
        for code in dict.fromkeys(code for code, _ in findings.reasons)
    ]
    numbers = [
        _number(codes.private_code(f"p {stage}", f"Probability of stage {stage}"), chance)
        for stage, chance in findings.probabilities.items()
    ]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(report, "stage of cirrhosis"),
        finding_type=_code(codes.CIRRHOSIS),
        algorithm_id=_algorithm(findings.model),
        finding_sites=[sr.FindingSite(_code(codes.LIVER_SITE))],
        measurements=numbers or None,
        qualitative_evaluations=evaluations,
        source_images=_referred(images),
    )
    reasons = [f"{findings.status}: {text}" for _, text in findings.reasons]
    return _with_comments(group, [*findings.caveats, *reasons, *findings.notes])


def _signs(findings: Findings, report: str) -> Any:
    """Strength of each sign with the limits of its interval, and the caveats."""
    from highdicom import sr

    numbers = []
    for name, words, strength, low, high in findings.signs:
        numbers.append(_number(codes.private_code(name, words), strength))
        for limit, value in (("low", low), ("high", high)):
            if value is not None:
                numbers.append(
                    _number(codes.private_code(f"{name} {limit}", f"{words[:44]}, {limit} limit (90 %)"), value)
                )
    answers = (
        [] if findings.no_sign is None else [_evaluation(codes.NO_SIGN, codes.YES if findings.no_sign else codes.NO)]
    )
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(report, "signs of cirrhosis"),
        finding_type=_code(codes.CIRRHOSIS),
        algorithm_id=_algorithm(findings.model),
        measurements=numbers,
        qualitative_evaluations=answers or None,
    )
    return _with_comments(group, list(findings.sign_notes))


def _organs(
    sequence: str,
    rows: Sequence[Mapping[str, Any]],
    segmentation: Any,
    images: Sequence[Any],
    model: ModelFacts,
    report: str,
) -> list[Any]:
    """A group an organ of one sequence; one with a segment refers to it."""
    groups = []
    segments = {} if segmentation is None else {
        str(described.SegmentLabel): int(described.SegmentNumber) for described in segmentation.SegmentSequence
    }  # fmt: skip
    for organ in codes.ORGANS:
        organ_rows = [row for row in rows if codes.MEASUREMENTS.get(row["name"], ("liver",))[0] == organ]
        numbers = [
            _number(_named(row["name"]), row["value"], row["unit"]) for row in organ_rows if row["value"] is not None
        ]
        label = codes.ORGANS[organ][0]
        if numbers or (organ_rows and label in segments):
            reference = _segment(segmentation, segments.get(label))
            group = _group(sequence, organ, numbers, reference, images, report)
            groups.append(_with_comments(group, _remarks(organ_rows)))
    return groups


def _segment(segmentation: Any, number: int | None) -> Any:
    from highdicom import sr

    return None if number is None else sr.ReferencedSegment.from_segmentation(segmentation, number)


def _named(measurement: str) -> codes.Code:
    return codes.MEASUREMENTS[measurement][1] if measurement in codes.MEASUREMENTS else codes.private_code(measurement)


def _remarks(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why something was not measured, and what has to be known about what was."""
    return [
        f"{row['name']}: {'' if row['value'] is not None else 'not measured: '}{row['note']}"
        for row in rows
        if row["note"]
    ]


def _group(sequence: str, organ: str, numbers: Sequence[Any], segment: Any, images: Sequence[Any], report: str) -> Any:
    from highdicom import sr

    _, *code = codes.ORGANS[organ]
    shared: dict[str, Any] = {
        "tracking_identifier": _tracking(report, f"{organ}, {sequence}"),
        "finding_type": _code((code[0], code[1], code[2])),
        "measurements": numbers or None,
    }
    if segment is None:
        return sr.MeasurementsAndQualitativeEvaluations(**shared, source_images=_referred(images))
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**shared, referenced_segment=segment)
