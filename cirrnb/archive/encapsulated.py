"""A PDF as a DICOM object of the study that it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cirrnb.data.atomic_files import atomic_file

STORAGE = "1.2.840.10008.5.1.4.1.1.104.1"
"""Encapsulated PDF Storage."""

DESCRIPTION = "cirrnb, research only: page"
_PATIENT = ("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_STUDY = (
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
    *("StudyDescription", "PatientAge"),
)


def write_pdf(path: Path, pdf: Path, source: Any, *, uids: tuple[str, str], series_number: int, version: str) -> Path:
    """Write a PDF as an encapsulated document, atomically.

    Parameters
    ----------
    source : header of an image of the study (pydicom); patient and study are taken from it.
    uids : SeriesInstanceUID and SOPInstanceUID.
    """
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(STORAGE), UID(uids[1])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in (*_PATIENT, *_STUDY):
        if keyword in source:
            data[keyword] = source[keyword]
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = STORAGE, uids[1], uids[0]
    data.Modality, data.ConversionType, data.SeriesNumber, data.InstanceNumber = "DOC", "WSD", series_number, 1
    data.SeriesDescription, data.DocumentTitle = DESCRIPTION, DESCRIPTION
    data.Manufacturer = data.ManufacturerModelName = "cirrnb"
    data.SoftwareVersions, data.DeviceSerialNumber = version, "none"
    data.ContentDate = data.ContentTime = data.AcquisitionDateTime = None
    data.BurnedInAnnotation, data.VerificationFlag = "NO", "UNVERIFIED"
    data.ConceptNameCodeSequence = Sequence([_code(("18748-4", "LN", "Diagnostic imaging study"))])
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    data.SourceInstanceSequence = Sequence([reference])
    data.MIMETypeOfEncapsulatedDocument = "application/pdf"
    content = pdf.read_bytes()
    data.EncapsulatedDocumentLength = len(content)
    data.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    with atomic_file(path) as partial:
        data.save_as(partial, enforce_file_format=True)
    return path


def _code(code: tuple[str, str, str]) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item
