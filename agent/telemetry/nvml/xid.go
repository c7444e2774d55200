package nvml

import "fmt"

// xidTexts say what an XID means and what to do, for those that a person can do something about.
// Source: NVIDIA's XID catalogue and the actions that it names (docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html).
var xidTexts = map[uint64]string{
	8:   "a program waited too long for the GPU: usually a fault of the program; if different programs see it, test the card",
	13:  "a program's kernel failed (graphics engine exception): usually a fault of the program; if different programs see it, test the card",
	31:  "a program used memory that it does not have (memory page fault): usually a fault of the program or its libraries",
	32:  "commands arrived damaged (push buffer): check the slot, riser and power of the card, then the driver",
	38:  "the driver's firmware failed: update the driver; if it comes again, report it to NVIDIA",
	43:  "a program was stopped after a fault of its own; the GPU is healthy: restart the program",
	44:  "a program's kernel failed while the state of the GPU was switched: restart the program; if it comes again, reset the GPU",
	45:  "the programs on the GPU were stopped, after another fault or because one was killed: see the fault before it, and restart them",
	46:  "the GPU stopped working for a moment: reset it with nvidia-smi --gpu-reset, or reboot",
	48:  "the memory lost data that ECC could not correct (double-bit error): restart the programs and reset the GPU; if it comes again, replace the card",
	54:  "the card's power cable is missing or loose: check the auxiliary power connectors",
	56:  "the display engine failed: update the driver, and check the cable",
	57:  "the link to the memory could not be set up: reset the GPU; if it comes again, replace the card",
	62:  "the firmware of the card stopped: reset the GPU or reboot; if it comes again, replace the card",
	63:  "a page or row of memory was marked to be replaced: nothing is lost; restart the programs and reset the GPU when that suits",
	64:  "a page or row of memory could not be marked to be replaced: reset the GPU; if it comes again, replace the card",
	68:  "the video engine failed: restart the program; if it comes again, update the driver",
	69:  "a program's kernel used an unknown class of the graphics engine: usually a fault of the program or its libraries",
	74:  "NVLink failed: if it comes again, check the bridge or the seat of the module, and reset the GPUs at both ends",
	79:  "the GPU has fallen off the bus: reboot; if it comes again, check its power, heat, slot and riser",
	92:  "many errors of memory were corrected: nothing is lost; if it stays, test the card",
	94:  "the memory lost data of one program, which was stopped: restart that program, and reset the GPU when that suits",
	95:  "the memory lost data, and it is not known whose: stop all programs and reset the GPU; if it comes again, replace the card",
	109: "work of one program did not make way for another's in time: restart the programs and reset the GPU; if it comes again, update the driver",
	110: "a security fault: reset the GPU; if it comes again, update the driver, then replace the card",
	119: "the GPU's own processor (GSP) does not answer: reset the GPU or reboot; if it comes again, update the driver or try without GSP firmware (NVreg_EnableGpuFirmware=0)",
	120: "the GPU's own processor (GSP) failed: reset the GPU or reboot; if it comes again, update the driver or try without GSP firmware (NVreg_EnableGpuFirmware=0)",
	121: "the link between processor and GPU (C2C) had an error that was corrected: reset the GPU when that suits",
	136: "NVLink could not be set up again: reset the GPU",
	137: "another GPU's program used this GPU's memory wrongly over NVLink: usually a fault of that program",
	140: "the memory had an error that could not be corrected: reset the GPU; if it comes again, replace the card",
	143: "the GPU could not be started: reset it, or power the machine off and on; if it comes again, replace the card",
	154: "the driver asks for a recovery of the GPU: run nvidia-smi -q and do what it says at GPU Recovery Action",
}

// xidText says for people what happened.
func xidText(code uint64) string {
	if text, ok := xidTexts[code]; ok {
		return text
	}
	if code >= 144 && code <= 150 { // one for each layer of NVLink 5
		return xidTexts[74]
	}
	return fmt.Sprintf("a fault that muster has no words for: look up XID %d in NVIDIA's documentation, and see the kernel log", code)
}
