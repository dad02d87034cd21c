"""Tables and the chart say what result.json says, and how it is to be read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import slicer
from SpikeRegSlicerLib.display import charts, tables


@pytest.fixture
def result(sampleRun) -> dict:
    return json.loads((sampleRun / "result.json").read_text())


def rows(node) -> list[list[str]]:
    table = node.GetTable()
    return [
        [table.GetValue(row, column).ToString() for column in range(table.GetNumberOfColumns())]
        for row in range(table.GetNumberOfRows())
    ]


def test_metrics_go_from_before_to_after(scene, result):
    shown = {row[0]: row[1:] for row in rows(tables.metricsTable(scene, result))}
    lncc = result["similarity"]
    assert shown["Similarity (LNCC)"] == [f"{lncc[f'lncc_{when}']:.3f}" for when in ("before", "aligned", "after")]
    turned = "Similarity against one image turned over (times)"
    assert shown[turned] == ["–", f"{lncc['above_chance']:.2f}", "–"]
    assert shown["Dice, mean of the labels"][2] == f"{result['dice']['after_mean']:.3f}"
    assert shown["Jacobian, smallest"] == ["–", "–", f"{result['deformation']['jacobian_min']:.3f}"]
    assert not any(name.startswith("Landmark") for name in shown), "no landmarks were given"


def test_landmarks_have_a_row_each(scene, result):
    result["tre_mm"] = {"before_mean": 9.0, "aligned_mean": 3.0, "after_mean": 1.25, "per_point": [1.0, 1.5]}
    shown = {row[0]: row[1:] for row in rows(tables.metricsTable(scene, result))}
    assert shown["Landmark error, mean (mm)"] == ["9.00", "3.00", "1.25"]
    assert shown["Landmark error, point 2 (mm)"] == ["–", "–", "1.50"], "as results of earlier versions"
    result["tre_mm"] |= {"per_point_before": [8.0, 10.0], "per_point_aligned": [2.0, 4.0]}
    shown = {row[0]: row[1:] for row in rows(tables.metricsTable(scene, result))}
    assert shown["Landmark error, point 2 (mm)"] == ["10.00", "4.00", "1.50"]


def test_labels_have_their_names_where_known(scene, result):
    label = next(iter(result["dice"]["per_label"]))
    result["label_names"] = {label: "Left thalamus"}
    shown = rows(tables.labelsTable(scene, result))
    assert len(shown) == len(result["dice"]["per_label"])
    assert shown[0][:2] == [label, "Left thalamus"]
    for row in shown:
        before, after = (result["dice"][name][row[0]] for name in ("per_label_before", "per_label"))
        assert row[2:4] == [f"{before:.3f}", f"{after:.3f}"]
    del result["dice"]["per_label_before"]  # as results of earlier versions
    assert [row[2:4] for row in rows(tables.labelsTable(scene, result))] == [["–", row[3]] for row in shown]
    result["dice"] = None
    assert tables.labelsTable(scene, result) is None


def test_structures_are_named_where_both_volumes_are_heads(scene, result):
    heads = {side: {"head": True, "reason": "", "off_mm": 1.5} for side in ("fixed", "moving")}
    values = {"name": "left hippocampus", "agreement": 0.812, "fixed_ml": 3.44, "moving_ml": 2.91}
    result["anatomy"] = {"images": heads, "structures": {"17": values, "18": {**values, "agreement": None}}}
    shown = rows(tables.structuresTable(scene, result))
    assert shown == [["left hippocampus", "0.81", "3.4", "2.9"], ["left hippocampus", "–", "3.4", "2.9"]]
    heads["moving"]["head"] = False
    assert tables.structuresTable(scene, result) is None
    for nothing in ({}, {"anatomy": None}):
        assert tables.structuresTable(scene, nothing) is None


def test_energy_is_called_a_proxy_and_its_formula_gives_its_numbers(scene, result):
    node = tables.energyTable(scene, result)
    energy = result["energy"]
    formula = f"E = {energy['mac_pj']:g} pJ × MACs + {energy['ac_pj']:g} pJ × synaptic operations"
    assert "proxy" in node.GetName()
    assert formula in node.GetDescription()
    assert node.GetColumnDescription("Energy proxy (mJ)") == formula
    names = [row[0] for row in rows(node)]
    assert names == ["Spiking network", "Dense twin", "Dense network of the paper, scaled to this image"]
    shown = {}
    for name, macs, operations, millijoule, less in rows(node):
        count, spikes = (int(text.replace(",", "")) for text in (macs, operations))
        expected = (energy["mac_pj"] * count + energy["ac_pj"] * spikes) * 1e-9
        assert float(millijoule) == pytest.approx(expected, abs=6e-4), name
        shown[name] = expected, less
    spiking = shown["Spiking network"][0]
    assert shown["Dense twin"][1] == f"{shown['Dense twin'][0] / spiking:.1f}×"
    assert tables.energyTable(scene, {"energy": None}) is None


def test_dense_decoders_of_a_field_stand_beside_its_spiking_encoder(scene, result):
    result["energy"]["decoder_macs"] = 2_000_000_000
    shown = {row[0]: row[1:] for row in rows(tables.energyTable(scene, result))}
    assert "Spiking network" not in shown and shown["Spiking encoder"][3] == "–"
    macs, _, millijoule, less = shown["Decoders of the neural field, dense, at most"]
    assert (macs, less) == ("2,000,000,000", "–")
    assert float(millijoule) == pytest.approx(result["energy"]["mac_pj"] * 2)


def test_provenance_tells_what_is_needed_to_run_it_again(scene, result):
    result["warnings"] = ["a warning"]
    shown = {row[0]: row[1] for row in rows(tables.provenanceTable(scene, result, {"regularisation": 2.0}))}
    assert shown["Model, sha256"] == result["model"]["sha256"]
    assert shown["Version of torch"] == result["versions"]["torch"]
    for name in ("device", "threads", "seed", "preset", "method"):
        assert shown[name.capitalize()] == str(result[name])
    assert shown["Option regularisation"] == "2.0"
    assert shown["Warning"] == "a warning"


def test_rates_are_numbers_in_the_network_s_order(scene, result):
    node = tables.ratesTable(scene, result)
    layers = [layer for layer in result["spikes"]["layers"] if layer["neurons"]]
    table = node.GetTable()
    assert [table.GetValueByName(n, "Layer").ToString() for n in range(table.GetNumberOfRows())] == [
        layer["name"] for layer in layers
    ]
    rates = [table.GetValueByName(n, "Rate (%)").ToDouble() for n in range(table.GetNumberOfRows())]
    np.testing.assert_allclose(rates, [100 * layer["rate"] for layer in layers])
    assert tables.ratesTable(scene, {"spikes": None}) is None


def test_the_chart_has_a_bar_per_layer_and_says_what_its_axes_are(scene, result):
    result["spikes"]["layers"] = [layer for layer in result["spikes"]["layers"] if "fine." not in layer["name"]]
    table = tables.ratesTable(scene, result)
    chart = charts.ratesChart(scene, table)
    (series,) = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert series.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeBar
    assert series.GetTableNode() is table and charts.ownNodes(chart, table) == [series]
    assert (series.GetYColumnName(), series.GetLabelColumnName()) == ("Rate (%)", "Layer")
    assert chart.GetYAxisTitle() == "Rate (%)" and not chart.GetLegendVisibility()
    assert chart.GetYAxisRange()[1] > 100 * max(layer["rate"] for layer in result["spikes"]["layers"])


def test_the_axis_says_which_numbers_are_which_part_of_the_network():
    names = ["enc0.down", "enc0.conv", "enc1.down", "bottleneck", "dec0.conv", "dec1.conv"]
    assert charts.parts(names) == "0-2 enc, 3 bottleneck, 4-5 dec"
    assert charts.parts([f"fine.{name}" for name in names]) == charts.parts(names)
    assert charts.parts(["0", "1"]) == "0-1 "


def test_coarse_and_fine_network_stand_apart_in_the_chart(scene, result):
    layers = [{"name": name, "rate": rate} for name, rate in (("enc0.conv", 0.2), ("dec0.conv", 0.1))]
    layers += [{"name": f"fine.{layer['name']}", "rate": layer["rate"] / 4} for layer in layers]
    result["spikes"]["layers"] = layers
    table = tables.ratesTable(scene, result)
    chart = charts.ratesChart(scene, table)
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [each.GetName() for each in series] == ["Coarse network", "Fine network"] and chart.GetLegendVisibility()
    assert series[0].GetColor() != series[1].GetColor()
    shown = []
    for each in series:
        columns = each.GetTableNode().GetTable()
        names = columns.GetColumnByName(each.GetLabelColumnName())
        rates = columns.GetColumnByName(each.GetYColumnName())
        shown.append([(names.GetValue(row), round(rates.GetValue(row), 6)) for row in range(2)])
    assert shown == [
        [("enc0.conv", 20.0), ("dec0.conv", 10.0)],
        [("fine.enc0.conv", 5.0), ("fine.dec0.conv", 2.5)],
    ]
    assert chart.GetXAxisTitle() == "Layer: 0 enc, 1 dec"
    assert set(charts.ownNodes(chart, table)) == {*series, *(each.GetTableNode() for each in series)}


def test_every_node_of_a_table_is_in_the_scene_under_its_title(scene, result):
    made = [tables.metricsTable(scene, result), tables.energyTable(scene, result), tables.ratesTable(scene, result)]
    assert all(scene.IsNodePresent(node) for node in made)
    assert [node.GetName() for node in made] == ["Metrics", "Energy (proxy, not a measurement)", "Spike rates"]
