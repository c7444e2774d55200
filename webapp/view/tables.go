package view

import (
	"strconv"
	"strings"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
)

// table makes a table with its heading as caption. Columns whose name ends in "#" hold numbers.
func table(class, caption string, columns []string, rows []app.UI) app.UI {
	heads := make([]app.UI, len(columns))
	for i, name := range columns {
		class := ""
		if name[len(name)-1] == '#' {
			name, class = name[:len(name)-1], "number"
		}
		heads[i] = el("th", class, at{"scope", "col"}, text(name))
	}
	return el("table", class, nil, el("caption", "", nil, text(caption)), el("thead", "", nil, el("tr", "", nil, heads...)), el("tbody", "", nil, rows...))
}

func cell(class string, v value) app.UI { return el("td", class, nil, measured("", v)) }

// renderProcesses lists who uses the device, and says what may be hidden.
func (w *whence) renderProcesses() app.UI {
	list := w.details.Processes
	var body app.UI
	switch {
	case len(list) > 0:
		body = w.processTable(list)
	case list == nil:
		body = el("div", "", nil, el("h4", "", nil, text("Processes")), el("p", "empty", nil, text("Which programs use this device is not known ("+w.reason("processes")+").")))
	default:
		body = el("div", "", nil, el("h4", "", nil, text("Processes")), el("p", "empty", nil, text("No program uses this device.")))
	}
	return el("div", "processes", nil, body, el("p", "hidden-note", nil, text(w.details.ProcessesHidden)))
}

func (w *whence) processTable(list []gpu.Process) app.UI {
	columns := []string{"Program", "PID#", "User", "Type", "Memory#"}
	if len(w.device.Partitions) > 0 {
		columns = append(columns, "Parti\u00adtion")
	}
	var rows []app.UI
	for i := range list {
		rows = append(rows, w.processRow(&list[i]))
		if command := list[i].Command; command != "" {
			rows = append(rows, el("tr", "command", nil, el("td", "", at{"colspan", strconv.Itoa(len(columns))}, text(command))))
		}
	}
	return table("process-table", "Processes", columns, rows)
}

// unnamed is why a process is a number only.
const unnamed = "not known here: in a container the number may be the host's"

func (w *whence) processRow(p *gpu.Process) app.UI {
	memory := optionalGiB(p.MemoryBytes)
	cells := []app.UI{
		el("th", "", at{"scope", "row"}, measured("", orAbsent(reported(p.Name), unnamed))),
		el("td", "number", nil, text(strconv.Itoa(p.PID))),
		cell("", orAbsent(reported(p.User), unnamed)),
		cell("", orAbsent(reported(strings.ReplaceAll(string(p.Type), "+", " + ")), absenceWords[gpu.AbsentUnsupported])),
		cell("number", orAbsent(reported(memory+unitBehind(memory, " GiB")), "the driver does not tell how much this process holds")),
	}
	if len(w.device.Partitions) > 0 {
		cells = append(cells, cell("", reported(partitionName(w.device, p.Partition))))
	}
	return el("tr", "", nil, cells...)
}

// partitionName numbers a partition as the table of partitions does; "" for none.
func partitionName(d *gpu.Device, id string) string {
	for i := range d.Partitions {
		if d.Partitions[i].ID == id {
			return strconv.Itoa(i)
		}
	}
	return id
}

// renderPartitions lists the parts of a divided device, each with its own memory and multiprocessors.
func (w *whence) renderPartitions() app.UI {
	if len(w.device.Partitions) == 0 {
		return nothing()
	}
	rows := make([]app.UI, len(w.device.Partitions))
	for i := range w.device.Partitions {
		rows[i] = w.partitionRow(i)
	}
	name := "Partitions"
	if w.device.PartitionMode != "" {
		name += " (" + w.device.PartitionMode + ")"
	}
	return table("partition-table", name, []string{"No.#", "Name", "Memory in use#", "Multi\u00adprocessors#", "Utili\u00adsation#"}, rows)
}

func (w *whence) partitionRow(i int) app.UI {
	d := &w.device.Partitions[i]
	var r gpu.PartitionReading
	for _, reading := range w.details.Partitions {
		if reading.ID == d.ID {
			r = reading
		}
	}
	total := r.MemoryTotalBytes
	if total == nil {
		total = d.MemoryBytes
	}
	unsupported := absenceWords[gpu.AbsentUnsupported]
	memory := orAbsent(reported(ofGiB(r.MemoryUsedBytes, total)), unsupported)
	if r.MemoryUsedBytes == nil && total != nil {
		memory = value{absent + " of " + gib(*total) + " GiB", unsupported}
	}
	return el("tr", "", at{"data-partition", d.ID},
		el("th", "number", at{"scope", "row"}, text(strconv.Itoa(i))),
		el("td", "", at{"title", d.ID}, text(d.Name)),
		cell("number", memory),
		cell("number", orAbsent(reported(optionalCount(d.MultiprocessorCount)), unsupported)),
		cell("number", orAbsent(reported(optional(r.UtilizationPercent, " %")), unsupported)))
}
